"""Rainforth et al. 2018, Figure 1: how much of a gradient is signal, by estimator and k."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from evidence.report import measurements
from evidence.report.frame import finished
from evidence.report.study import BUDGETS, Budget, Findings, Picture, Study
from experiments.gradient_snr import claims, drawing, measuring
from experiments.gradient_snr.claims import GAUSSIAN, SPAN, TRAINED
from experiments.gradient_snr.estimators import ESTIMATORS
from experiments.iwae_table1 import cells

DRAWS, SEEDS = 20_000, 5  # of the gradient, and independent sets of so many
CELL = ["model", "estimator", "part", "k"]
TRAINED_SEEDS = 3
LINE = CELL[:-1]
RUN = "iwae", 50  # the run of Table 1 whose model is measured


def sweeps(budget: Budget) -> Iterator[list[str]]:
    """The run whose model is measured, as Table 1 trains it. The other model is Gaussian."""
    yield cells.arguments(budget, "seed=0", f"objective={RUN[0]}", f"k={RUN[1]}")


def measure(folder: Path, budget: Budget) -> None:
    """All of it, at every budget."""
    measuring.measure(folder, DRAWS, SEEDS)
    runs = cells.measured(finished(cells.EXPERIMENT), [RUN]).runs
    measurements.each(runs, lambda run: measuring.measure_trained(folder, run, TRAINED_SEEDS))


def find(runs: pd.DataFrame, folder: Path) -> Findings:
    """From the CSV files in `folder`: of the linear-Gaussian model, and of the run that is measured."""
    chosen = cells.measured(runs, [RUN])
    files = dict.fromkeys(sorted(folder.glob("gaussian-s*.csv")), GAUSSIAN)
    same, budget = {}, ""
    for _, run in chosen.runs.iterrows():
        files |= dict.fromkeys(sorted(folder.glob(f"trained-{run['run']}-s*.csv")), TRAINED)
        same, budget = {"record": run["record"]}, f"{cells.label(*RUN)}, {run['budget']}, one seed"
    tables = [
        measurements.read(path, same if model == TRAINED else {}).assign(model=model)
        for path, model in files.items()
    ]
    rows = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
    if rows.empty:
        return Findings(rows, rows, claims.judge(rows, budget), [], NOTES)
    results = _results(rows)
    drawing.draw(results, folder / "snr.png")
    notes = [*NOTES, *chosen.notes, *measurements.notes(measuring.MEASURING, [rows])]
    return Findings(results, _table(results), claims.judge(results, budget), [PICTURE], notes)


def _results(rows: pd.DataFrame) -> pd.DataFrame:
    """A row for each estimator, part and k: the ratio of all draws, with its standard error over the sets."""
    found = []
    for key, group in rows.groupby(CELL, sort=False):
        ratio = group["signal"].mean() / group["variance"].mean()
        each = (group["signal"] / group["variance"]).sem()
        snr = math.sqrt(max(ratio, 0.0))
        found.append(
            dict(zip(CELL, key, strict=True))
            | {"snr": snr, "snr_se": each / (2 * snr) if snr else float("nan")}
            | {"direction": group["direction"].mean(), "direction_se": group["direction"].sem()}
            | {"seeds": len(group), "draws": group["draws"].iloc[0], **measurements.origin(group)}
        )
    results = pd.DataFrame(found)
    lines = results.groupby(LINE)
    rise, run = (np.log(results[name] / lines[name].shift(SPAN)) for name in ("snr", "k"))
    error = results["snr_se"] / results["snr"]
    before = error.groupby([results[name] for name in LINE]).shift(SPAN)
    return results.assign(slope=rise / run, slope_se=np.hypot(error, before) / run)


def _table(results: pd.DataFrame) -> pd.DataFrame:
    """A model and estimator a row: the encoder's ratio by k, and slopes."""
    found = []
    for (model, name), group in results.groupby(["model", "estimator"], sort=False):
        encoder, decoder = (group[group["part"] == part] for part in ("encoder", "decoder"))
        found.append(
            {
                "model": model,
                "estimator": name,
                **{
                    f"SNR, k = {row['k']} (± se)": f"{row['snr']:.3f} ± {row['snr_se']:.3f}"
                    for _, row in encoder.iterrows()
                },
                "slope in log k at the end (± se)": claims.last_slope(encoder),
                "of the theory": f"{ESTIMATORS[str(name)].slope:+.1f}",
                "decoder's slope (± se)": claims.last_slope(decoder),
            }
        )
    return pd.DataFrame(found).fillna("")


PICTURE = Picture(
    "snr.png",
    "The signal-to-noise ratio |E g| / sqrt(tr Var g) of a gradient g against k: on the linear-Gaussian model, and on"
    f" one trained on MNIST. Bars are one standard error over {SEEDS} sets of {DRAWS:,} draws, and over"
    f" {TRAINED_SEEDS} sets of {measuring.TRAINED.num_draws} draws of {measuring.TRAINED.num_batches} batches.",
)
NOTES = [
    "q is N(x / 2 + b, 2/3 I) beside a posterior of N((x + mu) / 2, I / 2): its mean is 0.1 off in each of 20"
    " dimensions, and its variance is a third too large. The encoder's ratio does not depend on x.",
    "The signal is estimated without bias, so that a gradient without any has a ratio of zero on average.",
    f"On MNIST all estimators are measured on one model, on batches of {measuring.TRAINED.batch_size} test images that"
    " stay the same. The ratio is over all parameters of the encoder, or of the decoder.",
]
STUDY = Study(
    name="gradient_snr",
    target="snr",
    title="The signal-to-noise ratio of gradients",
    claim="Tighter bounds are not better for the encoder: the IWAE's gradient loses its signal with k, and DReG's"
    " does not.",
    source="Rainforth et al. 2018, Figure 1, https://arxiv.org/abs/1802.04537; Tucker et al. 2018",
    costs=dict.fromkeys(
        BUDGETS, "a run of Table 1, then 12 minutes for the Gaussian model on one core of an AMD EPYC"
    ),
    reaches={
        "quick": f"a run of Table 1, 13 passes, one seed; {SEEDS} sets of {DRAWS:,} gradients",
        "day": f"a run of Table 1, 40 passes, one seed; {SEEDS} sets of {DRAWS:,} gradients",
        "paper": f"a run of Table 1, 3280 passes, one seed; {SEEDS} sets of {DRAWS:,} gradients",
    },
    sweeps=sweeps,
    find=find,
    measure=measure,
    experiment=cells.EXPERIMENT,
    order=10,
)
