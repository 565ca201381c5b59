"""L_k closing Jensen's gap as k grows."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import pandas as pd

from evidence.report import measurements, protocol
from evidence.report.frame import finished
from evidence.report.study import Budget, Claim, Findings, Picture, Study
from experiments.bounds import drawing, measuring
from experiments.bounds.estimates import GRID, POOL, POOLS, summary
from experiments.iwae_table1 import cells

IMAGES: dict[Budget, int] = {"quick": 100, "day": 500, "paper": 2000}  # evenly spaced test images
CELLS = [("vae", 1), ("iwae", 50)]
LINEAR_GAUSSIAN = "linear-Gaussian"
SHOWN = [1, 5, 50, 500, 5000]  # in the table; results.csv has every k
SURE, REFUTED = 2, -3  # standard errors: every step is above the one; a single one is below the other


def sweeps(budget: Budget) -> Iterator[list[str]]:
    """The two runs that are measured, as Table 1 trains them."""
    for objective, k in CELLS:
        yield cells.arguments(budget, "seed=0", f"objective={objective}", f"k={k}")


def measure(folder: Path, budget: Budget) -> None:
    """A CSV file for each model, with a row for each image and k."""
    measuring.measure_linear_gaussian(folder, measuring.POINTS)
    runs = cells.measured(finished(cells.EXPERIMENT), CELLS).runs
    measurements.each(runs, lambda run: measuring.measure_trained(folder, run, IMAGES[budget]))


def find(runs: pd.DataFrame, folder: Path) -> Findings:
    """Of the linear-Gaussian model and of two of Table 1's runs, from the CSV files of those that were measured."""
    chosen = cells.measured(runs, CELLS)
    tables = _tables(folder, chosen.runs)
    found = {name: _summarized(name, rows, run) for name, (rows, run) in tables.items()}
    if not found:
        return Findings(pd.DataFrame(), pd.DataFrame(), _claims({}), [], chosen.notes)
    drawing.bounds(found, folder / "bounds.png")
    drawing.gaps(found, folder / "gaps.png")
    pictures = [
        Picture(
            "bounds.png",
            "L_k against k, one seed of each trained model. Bars are two standard errors of sampling either way, the"
            " images being fixed; other images would move a whole curve by the standard error over images in the"
            " table.",
        ),
        Picture(
            "gaps.png",
            "The variance of log w-bar over independent draws, and on the linear-Gaussian model half of it beside the"
            " gap log p(x) - L_k, which nears Var[w/p(x)]/2k (dashed). Bars are two standard errors over"
            " images either way.",
        ),
    ]
    results = pd.concat(found.values(), ignore_index=True)
    notes = [
        f"Of each image {POOLS} pools of {POOL:,} samples; each k takes every other pool, and the next k the pools"
        " between, so that neighbours share no weights: on the same weights the bound could not sink, whatever the"
        " code does.",
        f"A claim about all steps is borne out where each is above zero by {SURE} standard errors of the paired"
        f" difference, and refuted where one is below zero by {-REFUTED}.",
        "The linear-Gaussian model has 5 latent and 10 observed dimensions, x drawn from itself, and q with 0.8 of the"
        " posterior's mean, 1.6 times its scale and no correlations, so that w has a fourth moment.",
    ]
    notes += protocol.notes(cells.EXPERIMENT, chosen.runs) + chosen.notes
    notes += measurements.notes(measuring.MEASURING, [rows for rows, _ in tables.values()])
    return Findings(results, _readable(results), _claims(found), pictures, notes)


def _tables(folder: Path, runs: pd.DataFrame) -> dict[str, tuple[pd.DataFrame, "pd.Series[str] | None"]]:
    """The rows of each model, and the run that trained it."""
    found: dict[str, tuple[pd.DataFrame, pd.Series[str] | None]] = {}
    for _, run in runs.iterrows():
        rows = measurements.read(folder / f"ladder-{run['run']}.csv", {"record": run["record"]})
        if len(rows):
            found[cells.label(run["objective"], run["k"])] = rows, run
    exact = measurements.read(folder / measuring.EXACT, {})
    return found | ({LINEAR_GAUSSIAN: (exact, None)} if len(exact) else {})


def _summarized(name: str, rows: pd.DataFrame, run: "pd.Series[str] | None") -> pd.DataFrame:
    table = summary(rows)
    table.insert(0, "model", name)
    count = f"{table['images'].iloc[0]:,} {'draws of x' if run is None else 'images'}"
    return table.assign(
        samples=POOL * POOLS,
        budget=f"{count}, {POOLS} x {POOL:,} samples each",
        training="none" if run is None else f"{run['budget']}; seed {run['seed']}",
        runs="" if run is None else run["run"],
        **measurements.origin(rows),
    )


def _readable(results: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for _, row in results[results["k"].isin(SHOWN)].iterrows():
        is_exact = pd.notna(row.get("log_evidence"))
        rows.append(
            {
                "model": row["model"],
                "k": f"{row['k']:,}",
                "L_k, nats": _with_error(row["bound"], row["sampling_se"]),
                "SE over images": f"{row['bound_se']:.2f}",
                "Var log w-bar": _with_error(row["variance"], row["variance_se"]),
                "log p(x) - L_k": _with_error(row["gap"], row["gap_se"]) if is_exact else "",
                "Var[w/p(x)]/2k": f"{row['asymptote']:.3g}" if is_exact else "",
                "trained": row["training"],
                "budget": row["budget"],
                "runs": row["runs"],
            }
        )
    return pd.DataFrame(rows)


def _with_error(value: float, error: float) -> str:
    """To two digits of the standard error."""
    digits = max(0, 1 - math.floor(math.log10(error))) if error > 0 else 3
    return f"{value:.{digits}f} ± {error:.{digits}f}"


def _claims(found: Mapping[str, pd.DataFrame]) -> list[Claim]:
    exact = found.get(LINEAR_GAUSSIAN)
    is_below, converges, below, near = None, None, "", ""
    if exact is not None:
        excess = exact["shortfall"] / exact["shortfall_se"]
        is_below = bool(excess.min() > REFUTED) and bool(excess.iloc[0] > SURE)
        below = f"where it is least certain, log p(x) - L_k is {excess.min():+.1f} standard errors from zero"
        last = exact.iloc[-1]
        converges = bool(abs(last["ratio"] - 1) < -REFUTED * last["ratio_se"])
        gap, ratio = (_with_error(last[name], last[f"{name}_se"]) for name in ("gap", "ratio"))
        near = (
            f"log p(x) - L_k is {exact['gap'].iloc[0]:.2f} nats at k = 1 and {gap} at k = {GRID[-1]:,}, {ratio} of"
            " Var[w/p(x)]/2k"
        )
    rises, rise = _steps(found, "rise", "nats")
    falls, fall = _steps(found, "fall", "nats²")
    return [
        Claim("L_k rises with k, at every step from 1 to 5000.", rises, rise),
        Claim("The tighter bound varies less: Var log w-bar falls at every step.", falls, fall),
        Claim("L_k stays below log p(x) (linear-Gaussian model).", is_below, below),
        Claim("It converges to it, as Var[w/p(x)]/2k goes to 0 (linear-Gaussian model).", converges, near),
    ]


def _steps(found: Mapping[str, pd.DataFrame], name: str, unit: str) -> tuple[bool | None, str]:
    """Whether every step of every model goes up, and of each model the least certain one."""
    scores: list[float] = []
    words: list[str] = []
    for model, table in found.items():
        steps = table.iloc[1:]
        worst = steps.loc[(steps[name] / steps[f"{name}_se"]).idxmin()]
        scores.append(worst[name] / worst[f"{name}_se"])
        words.append(f"{model} {_with_error(worst[name], worst[f'{name}_se'])} {unit} to k = {worst['k']:,}")
    if not scores:
        return None, ""
    holds = True if min(scores) > SURE else False if min(scores) < REFUTED else None
    return holds, f"the least certain step of each, one seed of each trained model: {'; '.join(words)}"


STUDY = Study(
    name="bounds",
    target="bounds",
    title="Jensen's gap closing",
    claim="L_k rises towards log p(x) with k, and the variance of log w-bar falls with it.",
    source="Burda et al. 2015, Theorem 1, https://arxiv.org/abs/1509.00519; Maddison et al. 2017, Proposition 1,"
    " https://arxiv.org/abs/1705.09279",
    reaches={
        "quick": "two runs of Table 1, 13 passes, one seed; 100 images",
        "day": "two runs of Table 1, 40 passes, one seed; 500 images",
        "paper": "two runs of Table 1, 3280 passes, one seed; 2,000 images",
    },
    costs={"quick": "two runs of Table 1, then 5 minutes on one core of an AMD EPYC beside other work"},
    sweeps=sweeps,
    find=find,
    measure=measure,
    experiment=cells.EXPERIMENT,
    order=3,
)
