"""Burda et al. 2015, Table 2: the objective switched half-way.

The objective is switched when training has ended, and training goes on. The second phase lasts as long as the last
stage of the first one, at the same learning rate: 3^7 passes at 1e-4 in the paper. Adam's state is carried over.
"""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from evidence import project
from evidence.report import protocol
from evidence.report.compare import (
    NLL_OVER_SEEDS,
    UNITS_OVER_SEEDS,
    apart,
    mean_and_deviation,
    summaries,
    verdict,
)
from evidence.report.paired import all_below, of_gaps, over
from evidence.report.selection import Chosen, choose, is_from_seed
from evidence.report.study import SIDE_BY_SIDE, Budget, Claim, Findings, Study
from evidence.runs import lookup
from experiments.iwae_table1.paper import NATS, PASSES, STEPS_A_PASS, UNITS

HERE = Path(__file__).parent
NAME = "iwae_table2"
STAGES: dict[Budget, int] = {"quick": 3, "day": 4, "paper": 8}
CELL = ["experiment", "stage"]
FIRST = {1: ("vae", 1), 2: ("iwae", 50)}
METRICS = ["test/nll", "test/nll_se", "test/active_units"]


def sweeps(budget: Budget) -> Iterator[list[str]]:
    """Both firsts, which are runs of Table 1 too; then, from their ends, both seconds."""
    seeds = "seed=0" if budget == "quick" else "seed=0,1,2"
    evaluation = "eval=quick" if budget == "quick" else "eval=paper"
    several = SIDE_BY_SIDE if "," in seeds else []
    first = [f"trainer.stages={STAGES[budget]}", evaluation]
    firsts = {
        number: [*several, f"experiment={NAME}", f"objective={objective}", f"k={k}", seeds, *first]
        for number, (objective, k) in FIRST.items()
    }
    yield from firsts.values()
    last = STAGES[budget] - 1
    length = ["trainer.stages=null", f"trainer.steps={3**last * STEPS_A_PASS}"]
    second = [*length, f"trainer.learning_rate={1e-3 * 10 ** (-last / 7):.6g}", evaluation]
    for number, arguments in firsts.items():
        other, other_k = FIRST[3 - number]
        for settings in protocol.asked(arguments):
            ended = lookup.locate(settings, project.root())
            if ended.is_finished:
                yield [
                    f"experiment={NAME}",
                    f"objective={other}",
                    f"k={other_k}",
                    f"seed={settings.seed}",
                    f"init_from={ended.directory.folder.name}",
                    *second,
                ]


def find(runs: pd.DataFrame, folder: Path) -> Findings:
    """Both experiments' NLL before and after the switch."""
    published = pd.read_csv(HERE / "published.csv")
    chosen = _chosen(runs)
    results = _results(chosen.runs, published)
    table = pd.DataFrame(
        {
            "experiment": row["experiment"],
            "trained as": f"{row['stage']}: {row['objective'].upper()}, k = {row['k']}",
            NLL_OVER_SEEDS: mean_and_deviation(row["nll"], row["nll_sd"]),
            "se over images": f"{row['nll_se']:.2f}",
            "published NLL": f"{row['published_nll']:.2f}",
            "difference": f"{row['nll'] - row['published_nll']:+.2f}",
            UNITS_OVER_SEEDS: mean_and_deviation(row["active_units"], row["active_units_sd"], 0),
            "published units": row["published_active_units"],
            "seeds": row["seeds"],
            "budget": _budget(row),
            "S, images": f"{row['eval_samples']}, {row['eval_images']:,}",
            "verdict": row["verdict"],
            "runs": row["runs"],
        }
        for _, row in results.iterrows()
    )
    notes = [
        "The second phase repeats the length and the learning rate of the first one's last stage, as in the paper."
    ]
    if len(results) and (results["passes"].dropna() < PASSES).any():
        notes.append(
            "A first phase cut short has not come to its end, so that the second one lowers the NLL whatever it"
            " ascends: only the active units then tell the objectives apart."
        )
    notes = notes if len(results) else []
    # The second phase has another learning rate.
    notes += protocol.notes(NAME, chosen.runs, ("trainer.learning_rate",))
    notes += protocol.unlike(chosen.runs, "Both experiments")
    return Findings(results, table, _claims(results, chosen.runs), [], [*notes, *chosen.notes])


def _chosen(runs: pd.DataFrame) -> Chosen:
    """The runs of each experiment and stage; of a first one those that the second one shown went on from."""
    if runs.empty:
        return Chosen(runs, [])
    runs = runs[(runs["data"] == "mnist") & (runs["model"] == "one_layer")]
    numbers = {first: number for number, first in FIRST.items()}
    kinds = [numbers.get(kind) for kind in zip(runs["objective"], runs["k"], strict=True)]
    stages = is_from_seed(runs).map({True: "first", False: "second"})
    runs = runs.assign(experiment=kinds, stage=stages).dropna(subset=["experiment"])
    # The objective names the experiment that it opens; as a second phase it belongs to the other one.
    is_first = runs["stage"] == "first"
    runs["experiment"] = runs["experiment"].where(is_first, 3 - runs["experiment"]).astype(int)
    seconds = choose(runs[~is_first], CELL, PASSES)
    is_origin = runs["run"].isin(_origins(seconds.runs))
    has_origin = runs["experiment"].isin(runs["experiment"][is_origin])
    firsts = choose(runs[is_first & (is_origin | ~has_origin)], CELL, PASSES)
    both = [each.runs for each in (firsts, seconds) if len(each.runs)]
    return Chosen(pd.concat(both) if both else pd.DataFrame(), [*firsts.notes, *seconds.notes])


def _origins(seconds: pd.DataFrame) -> "pd.Series[str]":
    """The names of the runs that these went on from."""
    return seconds.get("init_from", pd.Series(dtype=str)).map(lambda folder: Path(folder).name)


def _results(chosen: pd.DataFrame, published: pd.DataFrame) -> pd.DataFrame:
    if chosen.empty:
        return pd.DataFrame()
    figures = published.rename(columns={"nll": "published_nll", "active_units": "published_active_units"})
    results = summaries(chosen, CELL, METRICS).merge(figures, "left", CELL).sort_values(CELL)
    ended = set(results["experiment"][results["passes"] == PASSES])  # the first phase came to its end
    as_long = (results["stage"] == "first") | (results["steps"] == 3**7 * STEPS_A_PASS)
    is_full = results["experiment"].isin(ended) & as_long
    is_close = (results["active_units"] - results["published_active_units"]).abs() <= UNITS
    results["verdict"] = [
        f"{verdict(row['nll'], row['published_nll'], NATS, full)}"
        + (f"; units within {UNITS}" if full and close else "")
        for (_, row), full, close in zip(results.iterrows(), is_full, is_close, strict=True)
    ]
    return results


def _budget(row: "pd.Series[str]") -> str:
    """The row's length in passes; that of a second phase is given in steps."""
    if row["stage"] == "first" or row["steps"] % STEPS_A_PASS:
        return row["budget"]
    return f"{row['steps'] // STEPS_A_PASS} of {3**7} passes more"


def _claims(results: pd.DataFrame, chosen: pd.DataFrame) -> list[Claim]:
    """Each second phase beside the run that it went on from."""
    cell = {(row["experiment"], row["stage"]): row for _, row in results.iterrows()}
    sentences = {
        1: ("A trained VAE that goes on as an IWAE gains NLL and active units.", -1),
        2: ("A trained IWAE that goes on as a VAE loses NLL and active units.", 1),
    }
    claims = []
    for number, (sentence, sign) in sentences.items():
        pair = [cell[number, stage] for stage in ("first", "second") if (number, stage) in cell]
        if len(pair) < 2:
            claims.append(Claim(sentence, None, ""))
            continue
        after = chosen[(chosen["experiment"] == number) & (chosen["stage"] == "second")]
        before = chosen.set_index("run").reindex(_origins(after))
        nll, units = (
            after[name].reset_index(drop=True) - before[name].reset_index(drop=True)
            for name in ("test/nll", "test/active_units")
        )
        change = of_gaps(nll)
        if unlike := apart(pair, ("eval_samples", "eval_images", "data_digest")) or _missing(before):
            claims.append(Claim(sentence, None, unlike))
            continue
        evidence = (
            f"NLL {change} nats, active units {units.mean():+.0f}; {_budget(pair[0])}, then {_budget(pair[1])},"
            f" {over([change])}"
        )
        printed = nll.round(2)  # less is no change
        holds = all_below([of_gaps(-sign * printed), of_gaps(sign * units)])
        claims.append(Claim(sentence, holds, evidence))
    return claims


def _missing(before: pd.DataFrame) -> str:
    """Which of the runs that second phases went on from are not among those shown."""
    lacking = before.index[before["objective"].isna()]
    return f"not compared: {', '.join(lacking)} is not in this experiment" if len(lacking) else ""


STUDY = Study(
    name=NAME,
    target="table2",
    title="Switching the objective",
    claim="Inactive units are the objective's doing and not the optimiser's: a VAE that goes on as an IWAE improves,"
    " and an IWAE that goes on as a VAE gets worse.",
    source="Burda, Grosse and Salakhutdinov 2015, Table 2, https://arxiv.org/abs/1509.00519",
    costs={
        "quick": "7 minutes on two cores of an AMD EPYC, for some of it beside other work, after `make table1`"
    },
    reaches={
        "quick": "13 of 3280 passes, then 9 more by the other objective, one seed; L_500",
        "day": "40 of 3280 passes, then 27 more by the other objective, 3 seeds; L_5000",
        "paper": "3280 passes, then 2187 more by the other objective, 3 seeds; L_5000",
    },
    sweeps=sweeps,
    find=find,
    order=5,
)
