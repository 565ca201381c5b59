"""Rainforth et al. 2018, Figure 1: how much of a gradient is signal, by estimator and k."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from evidence.report import measurements
from evidence.report.study import BUDGETS, Budget, Claim, Findings, Picture, Study
from experiments.gradient_snr import drawing, measuring
from experiments.gradient_snr.estimators import ESTIMATORS, KS

DRAWS, SEEDS = 20_000, 5  # of the gradient, and independent sets of so many
CELL = ["estimator", "part", "k"]
NEAR = 0.1  # of a slope to that of the theory
SPAN = 2  # steps of k over which a slope is taken, a factor of 16


def sweeps(budget: Budget) -> Iterator[list[str]]:
    """None: the model is Gaussian, and nothing is trained."""
    yield from ()


def measure(folder: Path, budget: Budget) -> None:
    """All of it, at every budget."""
    measuring.measure(folder, DRAWS, SEEDS)


def find(runs: pd.DataFrame, folder: Path) -> Findings:
    """From the CSV files in `folder`; there are no runs."""
    tables = [measurements.read(path, {}) for path in sorted(folder.glob("gaussian-s*.csv"))]
    rows = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
    if rows.empty:
        return Findings(rows, rows, _claims(rows), [], NOTES)
    results = _results(rows)
    drawing.draw(results, folder / "snr.png")
    notes = [*NOTES, *measurements.notes(measuring.MEASURING, [rows])]
    return Findings(results, _table(results), _claims(results), [PICTURE], notes)


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
    lines = results.groupby(["estimator", "part"])
    rise, run = (np.log(results[name] / lines[name].shift(SPAN)) for name in ("snr", "k"))
    error = results["snr_se"] / results["snr"]
    before = error.groupby([results["estimator"], results["part"]]).shift(SPAN)
    return results.assign(slope=rise / run, slope_se=np.hypot(error, before) / run)


def _table(results: pd.DataFrame) -> pd.DataFrame:
    """An estimator a row: the encoder's ratio by k, and slopes."""
    found = []
    for name, group in results.groupby("estimator", sort=False):
        encoder, decoder = (group[group["part"] == part] for part in ("encoder", "decoder"))
        found.append(
            {
                "estimator": name,
                **{
                    f"SNR, k = {row['k']} (± se)": f"{row['snr']:.3f} ± {row['snr_se']:.3f}"
                    for _, row in encoder.iterrows()
                },
                "slope in log k at the end (± se)": _slope(encoder.iloc[-1]),
                "of the theory": f"{ESTIMATORS[str(name)].slope:+.1f}",
                "decoder's slope (± se)": _slope(decoder.iloc[-1]),
            }
        )
    return pd.DataFrame(found)


def _slope(row: "pd.Series[float]") -> str:
    return f"{row['slope']:+.2f} ± {row['slope_se']:.2f}"


def _claims(results: pd.DataFrame) -> list[Claim]:
    statements = (
        "The IWAE's encoder gradient loses its signal as 1/sqrt(k); its decoder's gains as sqrt(k).",
        "Without the score it gains as sqrt(k): STL and DReG, where q is not the posterior.",
        "Every estimator's encoder has the slope of the theory.",
    )
    if results.empty:
        return [Claim(statement, None, "not measured") for statement in statements]
    ends = results[results["k"] == KS[-1]].set_index(["estimator", "part"])
    last = ends["slope"]

    def near(name: str, part: str, slope: float) -> bool:
        return bool(abs(last[name, part] - slope) < NEAR)

    def figures(*pairs: tuple[str, str]) -> str:
        shown = "; ".join(f"{name}, {part} {_slope(ends.loc[(name, part)])}" for name, part in pairs)
        return f"slope from k = {KS[-1 - SPAN]} to {KS[-1]}: {shown}"

    iwae = (("IWAE", "encoder"), ("IWAE", "decoder"))
    path = (("STL", "encoder"), ("DReG", "encoder"))
    off = [name for name, each in ESTIMATORS.items() if not near(name, "encoder", each.slope)]
    return [
        Claim(statements[0], near(*iwae[0], -0.5) and near(*iwae[1], 0.5), figures(*iwae)),
        Claim(statements[1], all(near(*each, 0.5) for each in path), figures(*path)),
        Claim(statements[2], not off, f"more than {NEAR} away: {', '.join(off) or 'none'}"),
    ]


PICTURE = Picture(
    "snr.png",
    "The signal-to-noise ratio |E g| / sqrt(tr Var g) of a gradient g against k, on the linear-Gaussian model."
    f" Bars are one standard error over {SEEDS} sets of {DRAWS:,} draws.",
)
NOTES = [
    "q is N(x / 2 + b, 2/3 I) beside a posterior of N((x + mu) / 2, I / 2): its mean is 0.1 off in each of 20"
    " dimensions, and its variance is a third too large. The encoder's ratio does not depend on x.",
    "The signal is estimated without bias, so that a gradient without any has a ratio of zero on average.",
]
STUDY = Study(
    name="gradient_snr",
    target="snr",
    title="The signal-to-noise ratio of gradients",
    claim="Tighter bounds are not better for the encoder: the IWAE's gradient loses its signal with k, and DReG's"
    " does not.",
    source="Rainforth et al. 2018, Figure 1, https://arxiv.org/abs/1802.04537; Tucker et al. 2018",
    costs=dict.fromkeys(BUDGETS, "12 minutes on one core of an AMD EPYC, for some of it beside other work"),
    reaches=dict.fromkeys(BUDGETS, f"nothing; {SEEDS} sets of {DRAWS:,} gradients each"),
    sweeps=sweeps,
    find=find,
    measure=measure,
    order=9,
)
