"""Table 2 of Burda et al. 2015: the objective is switched when training has ended, and training goes on.

The second phase lasts as long as the last stage of the first one, at the same learning rate: 3^7 passes at 1e-4 in
the paper. Adam's state is carried over.
"""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from evidence.report.frame import finished
from evidence.report.judging import NATS, PASSES, UNITS, longest, mean_and_deviation, summary, verdict
from evidence.report.study import Budget, Claim, Findings, Study
from experiments import tables

HERE = Path(__file__).parent
NAME = "iwae_table2"
STAGES: dict[Budget, int] = {"quick": 3, "day": 4, "paper": 8}
STEPS_A_PASS = 2980  # of MNIST
CELL = ["experiment", "stage"]
FIRST = {1: ("vae", 1), 2: ("iwae", 50)}
METRICS = ["test/nll", "test/nll_se", "test/active_units"]


def sweeps(budget: Budget) -> Iterator[list[str]]:
    """Both firsts, which are runs of Table 1 too; then, from their ends, both seconds."""
    seeds = "seed=0" if budget == "quick" else "seed=0,1,2"
    evaluation = "eval=paper" if budget == "paper" else "eval=quick"
    several = tables.SIDE_BY_SIDE if "," in seeds else []
    first = [f"trainer.stages={STAGES[budget]}", evaluation]
    for objective, k in FIRST.values():
        yield [*several, f"experiment={NAME}", f"objective={objective}", f"k={k}", seeds, *first]
    last = STAGES[budget] - 1
    length = ["trainer.stages=null", f"trainer.steps={3**last * STEPS_A_PASS}"]
    second = [*length, f"trainer.learning_rate={1e-3 * 10 ** (-last / 7):.6g}", evaluation]
    ended = finished(NAME)
    ended = ended[ended["stages"].astype(str) == str(STAGES[budget])]
    for number, (objective, k) in FIRST.items():
        other, other_k = FIRST[3 - number]
        firsts = ended[(ended["objective"] == objective) & (ended["k"] == k)]
        for seed, run in firsts.sort_values("date").groupby("seed")["run"].last().items():
            yield [
                f"experiment={NAME}",
                f"objective={other}",
                f"k={other_k}",
                f"seed={seed}",
                f"init_from={run}",
                *second,
            ]


def find(runs: pd.DataFrame, folder: Path) -> Findings:
    """Both experiments' NLL before and after the switch."""
    published = pd.read_csv(HERE / "published.csv")
    results = _results(runs, published)
    table = pd.DataFrame(
        {
            "experiment": row["experiment"],
            "trained as": f"{row['stage']}: {row['objective'].upper()}, k = {row['k']}",
            "NLL, nats": mean_and_deviation(row["nll"], row["nll_sd"]),
            "published NLL": f"{row['published_nll']:.2f}",
            "difference": f"{row['nll'] - row['published_nll']:+.2f}",
            "active units": mean_and_deviation(row["active_units"], row["active_units_sd"], 0),
            "published units": row["published_active_units"],
            "seeds": row["seeds"],
            "budget": row["budget"],
            "verdict": row["verdict"],
            "runs": row["runs"],
        }
        for _, row in results.iterrows()
    )
    notes = [
        "The second phase repeats the length and the learning rate of the first one's last stage, as in the paper."
    ]
    if len(results) and (results["length"] < PASSES).any():
        notes.append(
            "A first phase cut short has not come to its end, so that the second one lowers the NLL whatever it climbs:"
            " only the active units then tell the objectives apart."
        )
    return Findings(results, table, _claims(results), [], notes if len(results) else [])


def _results(runs: pd.DataFrame, published: pd.DataFrame) -> pd.DataFrame:
    if runs.empty:
        return pd.DataFrame()
    numbers = {first: number for number, first in FIRST.items()}
    begun = runs["init_from"].notna() if "init_from" in runs else pd.Series(False, index=runs.index)
    kinds = [numbers.get(kind) for kind in zip(runs["objective"], runs["k"], strict=True)]
    runs = runs.assign(experiment=kinds, stage=begun.map({False: "first", True: "second"})).dropna(
        subset=["experiment"]
    )
    # The objective names the experiment that it opens; as a second phase it belongs to the other one.
    runs["experiment"] = (
        runs["experiment"].where(runs["stage"] == "first", 3 - runs["experiment"]).astype(int)
    )
    rows = []
    for key, group in longest(runs, CELL).groupby(CELL):
        rows.append(dict(zip(CELL, key, strict=True)) | summary(group, METRICS))
    figures = published.rename(columns={"nll": "published_nll", "active_units": "published_active_units"})
    results = pd.DataFrame(rows).merge(figures, "left", CELL).sort_values(CELL)
    is_full = (results["length"] == PASSES) | (results["length"] == 3**7 * STEPS_A_PASS)
    results["verdict"] = [
        f"{verdict(row['nll'], row['published_nll'], NATS, full)}"
        + (
            f"; units within {UNITS}"
            if full and abs(row["active_units"] - row["published_active_units"]) <= UNITS
            else ""
        )
        for (_, row), full in zip(results.iterrows(), is_full, strict=True)
    ]
    return results


def _claims(results: pd.DataFrame) -> list[Claim]:
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
        change = round(pair[1]["nll"] - pair[0]["nll"], 2)  # as it is printed: less is no change
        units = pair[1]["active_units"] - pair[0]["active_units"]
        evidence = f"NLL {change:+.2f} nats, active units {units:+.0f}; {pair[0]['budget']}, then {pair[1]['budget']}"
        claims.append(Claim(sentence, sign * change > 0 and sign * units < 0, evidence))
    return claims


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
    sweeps=sweeps,
    find=find,
)
