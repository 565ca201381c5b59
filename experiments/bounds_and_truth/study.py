"""Every estimate of log p(x) on the same models."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pandas as pd

from evidence.report import measurements, protocol
from evidence.report.frame import finished
from evidence.report.study import Budget, Claim, Findings, Picture, Study
from experiments.bounds_and_truth import drawing, measuring
from experiments.bounds_and_truth.measuring import GROUP, SAMPLES, Annealing
from experiments.iwae_table1 import cells

CELLS = [("vae", 1), ("iwae", 50)]
LINEAR_GAUSSIAN = "linear-Gaussian"
IMAGES: dict[Budget, int] = {"quick": 50, "day": 100, "paper": 500}  # evenly spaced test images
ANNEALING: dict[Budget, Annealing] = {
    "quick": Annealing(8, 500),
    "day": Annealing(16, 1_000),
    "paper": Annealing(16, 10_000),
}
ESTIMATES = {
    "group": f"L_{GROUP}",
    "jvi_1": f"JVI-1 ({GROUP})",
    "jvi_2": f"JVI-2 ({GROUP})",
    "importance": f"L_{SAMPLES}",
    "ais": "AIS",
}
SURE = 2  # standard errors over images
NEAR = 0.1  # nats


def sweeps(budget: Budget) -> Iterator[list[str]]:
    """The two runs that are measured, as Table 1 trains them."""
    for objective, k in CELLS:
        yield cells.arguments(budget, "seed=0", f"objective={objective}", f"k={k}")


def measure(folder: Path, budget: Budget) -> None:
    """A CSV file for each model, with a row for each image."""
    annealing = ANNEALING[budget]
    measuring.measure_linear_gaussian(folder, annealing)
    runs = cells.measured(finished(cells.EXPERIMENT), CELLS).runs
    measurements.each(runs, lambda run: measuring.measure_trained(folder, run, IMAGES[budget], annealing))


def find(runs: pd.DataFrame, folder: Path) -> Findings:
    """Of the linear-Gaussian model and of two of Table 1's runs, from the CSV files of those that were measured."""
    chosen = cells.measured(runs, CELLS)
    tables: dict[str, pd.DataFrame] = {}
    trained: dict[str, pd.Series[str]] = {}
    for _, run in chosen.runs.iterrows():
        rows = measurements.read(folder / f"estimates-{run['run']}.csv", {"record": run["record"]})
        if len(rows):
            name = cells.label(run["objective"], run["k"])
            tables[name], trained[name] = rows, run
    exact = measurements.read(folder / measuring.EXACT, {})
    if len(exact):
        tables[LINEAR_GAUSSIAN] = exact
    if not tables:
        return Findings(pd.DataFrame(), pd.DataFrame(), _claims({}, {}), [], [*NOTES, *chosen.notes])
    results = pd.concat([_summary(name, rows, trained.get(name)) for name, rows in tables.items()])
    drawing.estimates(results, folder / "estimates.png")
    pictures = [Picture("estimates.png", ESTIMATES_CAPTION)]
    if trained:
        drawing.doubt({name: tables[name] for name in trained}, folder / "khat.png")
        pictures.append(Picture("khat.png", KHAT_CAPTION))
    notes = [*NOTES, *protocol.notes(cells.EXPERIMENT, chosen.runs), *chosen.notes]
    notes += measurements.notes(measuring.MEASURING, list(tables.values()))
    return Findings(results, _table(results), _claims(tables, trained), pictures, notes)


def _summary(name: str, rows: pd.DataFrame, run: "pd.Series[str] | None") -> pd.DataFrame:
    """A row for each estimate: its mean, and its mean difference to log p(x), or to L_S where that is unknown."""
    reference = "exact" if run is None else "importance"
    found = []
    for column, estimate in ESTIMATES.items():
        difference = rows[column] - rows[reference]
        found.append(
            {
                "model": name,
                "estimate": estimate,
                "log_evidence": rows[column].mean(),
                "log_evidence_se": rows[column].sem(),
                "difference": difference.mean(),
                "difference_se": difference.sem(),
                "less": "log p(x)" if run is None else f"L_{SAMPLES}",
                "khat": rows["khat"].mean(),
                "khat_above": rows["khat_above"].mean(),
                "effective_sample_size": rows["effective_sample_size"].mean(),
                "gap": (rows["simulated_lower"] - rows["simulated_upper"]).mean(),
                "gap_se": (rows["simulated_lower"] - rows["simulated_upper"]).sem(),
                "images": len(rows),
                "chains": rows["chains"].iloc[0],
                "temperatures": rows["temperatures"].iloc[0],
                "training": "none" if run is None else f"{run['budget']}; seed {run['seed']}",
                "runs": "" if run is None else run["run"],
                **measurements.origin(rows),
            }
        )
    return pd.DataFrame(found)


def _table(results: pd.DataFrame) -> pd.DataFrame:
    """A model a row."""
    found = []
    for name, group in results.groupby("model", sort=False):
        first = group.iloc[0]
        differences = {
            row["estimate"]: f"{row['difference']:+.3f} ± {row['difference_se']:.3f}"
            for _, row in group.iterrows()
        }
        importance = group[group["estimate"] == ESTIMATES["importance"]].iloc[0]
        found.append(
            {
                "model": name,
                f"L_{SAMPLES}, nats (± se over images)": f"{importance['log_evidence']:.2f}"
                f" ± {importance['log_evidence_se']:.2f}",
                "the others less": first["less"],
                **differences,
                "BDMC gap, simulated images": f"{first['gap']:.3f} ± {first['gap_se']:.3f}",
                "k-hat": f"{first['khat']:.2f}",
                "above its threshold": f"{first['khat_above']:.0%}",
                f"ESS of {SAMPLES:,}": f"{first['effective_sample_size']:.0f}",
                "images": first["images"],
                "annealing": f"{first['chains']} chains, {first['temperatures']:,} temperatures",
                "trained": first["training"],
                "runs": first["runs"],
            }
        )
    return pd.DataFrame(found)


def _claims(tables: Mapping[str, pd.DataFrame], trained: Mapping[str, object]) -> list[Claim]:
    statements = (
        f"Where log p(x) is known, L_{SAMPLES} and AIS agree with it to a tenth of a nat, and the jackknives have"
        f" less bias than L_{GROUP}.",
        f"On trained models L_{SAMPLES} is below AIS: q(z | x) misses a part of p(z | x) (Wu et al. 2017).",
        "Annealing errs less: its gap from both sides, on images that the model simulates, is below that difference.",
        "k-hat warns of it: it is above its threshold for most images of the trained models, and for none where"
        f" L_{SAMPLES} agrees with log p(x).",
    )
    none = [Claim(statement, None, "not measured") for statement in statements]
    ours = {name: tables[name] for name in trained}
    exact = tables.get(LINEAR_GAUSSIAN)
    return [
        none[0] if exact is None else _exact(statements[0], exact),
        _below(statements[1], ours) if ours else none[1],
        _errs_less(statements[2], ours) if ours else none[2],
        _warns(statements[3], ours, exact) if ours and exact is not None else none[3],
    ]


def _exact(statement: str, rows: pd.DataFrame) -> Claim:
    errors = {name: rows[name] - rows["exact"] for name in ESTIMATES}
    agree = all(abs(errors[name].mean()) < NEAR for name in ("importance", "ais"))
    less = all(abs(errors[name].mean()) < abs(errors["group"].mean()) for name in ("jvi_1", "jvi_2"))
    shown = "; ".join(f"{label} {_figure(errors[name], 4)}" for name, label in ESTIMATES.items())
    return Claim(statement, bool(agree and less), f"less log p(x), nats, {len(rows)} points: {shown}")


def _below(statement: str, tables: Mapping[str, pd.DataFrame]) -> Claim:
    gaps = {name: rows["ais"] - rows["importance"] for name, rows in tables.items()}
    shown = "; ".join(f"{name} {_figure(gap)}" for name, gap in gaps.items())
    verdict = _sure([gap.mean() / gap.sem() for gap in gaps.values()])
    return Claim(statement, verdict, f"AIS less L_{SAMPLES}, nats: {shown}; one seed of each")


def _errs_less(statement: str, tables: Mapping[str, pd.DataFrame]) -> Claim:
    excesses, words = [], []
    for name, rows in tables.items():
        difference, gap = rows["ais"] - rows["importance"], rows["simulated_lower"] - rows["simulated_upper"]
        excesses.append((difference.mean() - gap.mean()) / (difference.sem() ** 2 + gap.sem() ** 2) ** 0.5)
        words.append(f"{name} {_figure(gap)} of {_figure(difference)}")
    return Claim(
        statement, _sure(excesses), f"gap of the difference, nats: {'; '.join(words)}; one seed of each"
    )


def _warns(statement: str, tables: Mapping[str, pd.DataFrame], exact: pd.DataFrame) -> Claim:
    shares = {name: rows["khat_above"].mean() for name, rows in tables.items()}
    shown = "; ".join(f"{name} {share:.0%}" for name, share in shares.items())
    holds = min(shares.values()) > 0.5 and exact["khat_above"].max() == 0
    return Claim(
        statement, bool(holds), f"{shown}; {LINEAR_GAUSSIAN} {exact['khat_above'].mean():.0%} of the images"
    )


def _sure(scores: list[float]) -> bool | None:
    """Whether all of these, in standard errors, are above zero; None where neither this nor the contrary is sure."""
    return True if min(scores) > SURE else False if max(scores) < -SURE else None


def _figure(values: "pd.Series[float]", digits: int = 3) -> str:
    return f"{values.mean():+.{digits}f} ± {values.sem():.{digits}f}"


ESTIMATES_CAPTION = (
    f"Each estimate less log p(x), where that is known, or less L_{SAMPLES}. Bars are two standard errors over images"
    " of the paired difference either way. L_K and AIS are below log p(x) in expectation; the jackknives are no bounds."
)
KHAT_CAPTION = (
    f"AIS less L_{SAMPLES} against k-hat, an image a point. The line is the threshold above which {SAMPLES:,}"
    " importance samples are not to be believed."
)
NOTES = [
    f"All estimates but AIS are of the same {SAMPLES:,} importance weights of an image. The jackknives and L_{GROUP}"
    f" are means over groups of {GROUP} of them.",
    "The gap is that of bidirectional Monte Carlo on images that the model simulates, as many as there are test"
    " images. It bounds the errors of both sides there, in expectation, and says how good AIS is for such images.",
]
STUDY = Study(
    name="bounds_and_truth",
    target="truth",
    title="Estimates of log p(x) on the same models",
    claim="An importance-weighted bound is below log p(x) by what q(z | x) misses, and annealed importance sampling"
    " shows by how much.",
    source="Wu et al. 2017, https://arxiv.org/abs/1611.04273; Nowozin 2018; Vehtari et al. 2024",
    reaches={
        "quick": "two runs of Table 1, 13 passes, one seed; 50 images, 500 temperatures",
        "day": "two runs of Table 1, 40 passes, one seed; 100 images, 1,000 temperatures",
        "paper": "two runs of Table 1, 3280 passes, one seed; 500 images, 10,000 temperatures",
    },
    costs={},
    sweeps=sweeps,
    find=find,
    measure=measure,
    experiment=cells.EXPERIMENT,
    order=4,
)
