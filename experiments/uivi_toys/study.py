"""Titsias and Ruiz 2019: UIVI on densities in two dimensions, by three samplers, and SIVI."""

import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch

from evidence.errors import UserError
from evidence.report import measurements
from evidence.report.compare import mean_and_deviation
from evidence.report.measurements import CPU
from evidence.report.study import Budget, Findings, Picture, Study
from evidence.streams import forked_rng
from experiments.uivi_toys import drawing, fits
from experiments.uivi_toys.claims import judged
from experiments.uivi_toys.fits import PUBLISHED_STEPS, fit
from experiments.uivi_toys.gaussian_fit import fit_gaussian
from experiments.uivi_toys.methods import METHODS, NUM_INNER, TARGET_ACCEPTANCE
from experiments.uivi_toys.summary import alike, by_fit, over_seeds
from experiments.uivi_toys.targets import targets

NUM_DRAWS = 2_000  # of q, for the picture
KIND = ["target", "method", "source"]  # what was fitted, and by which code


class Length(NamedTuple):
    """What a budget fits."""

    steps: int
    seeds: tuple[int, ...]


LENGTHS: dict[Budget, Length] = {
    "quick": Length(10_000, (0,)),
    "day": Length(PUBLISHED_STEPS, (0, 1, 2)),
    "paper": Length(PUBLISHED_STEPS, (0, 1, 2)),
}


def sweeps(budget: Budget) -> Iterator[list[str]]:
    """None: a toy has no data."""
    yield from ()


def measure(folder: Path, budget: Budget) -> None:
    """<target>-<method>-s<seed>.csv, a row for each report, and <target>-<method>-samples.csv, draws of seed 0's q.

    A fit that diverges does not stop the others. Raises: UserError, after the last, where there is such a fit.
    """
    length, failed = LENGTHS[budget], []
    for seed, name, method in itertools.product(length.seeds, targets(), METHODS):
        try:
            _measure(folder, name, method, seed, length.steps)
        except UserError as error:
            failed.append(f"{name} by {METHODS[method].title}, seed {seed} ({error})")
    if failed:
        raise UserError(f"not fitted: {'; '.join(failed)}")


def _measure(folder: Path, name: str, method: str, seed: int, steps: int) -> None:
    stem = folder / f"{name}-{method}-s{seed}"
    fitted = fit(name, method, seed, steps, stem.with_suffix(".pt"))
    measurements.write(stem.with_suffix(".csv"), pd.DataFrame(fitted.rows), "%.6g")
    if seed == 0:
        with forked_rng(CPU, seed), torch.no_grad():
            q = fitted.model.posterior(torch.empty(1, 0))
            z = pd.DataFrame(q.rsample(q.noise(NUM_DRAWS))[:, 0].double(), columns=["z_1", "z_2"])
        draws = z.assign(target=name, method=method, source=fitted.rows[-1]["source"])
        measurements.write(folder / f"{name}-{method}-samples.csv", draws, "%.6g")


def find(runs: pd.DataFrame, folder: Path) -> Findings:
    """From the CSV files in `folder`; there are no runs."""
    gaussian = {name: fit_gaussian(density).kl for name, density in targets(torch.float64).items()}
    rows, left_out = alike(_read(folder, "*-*-s[0-9]*.csv"))
    if not len(rows):
        return Findings(pd.DataFrame(), pd.DataFrame(), judged(rows, rows, gaussian), [], NOTES)
    samples = _read(folder, "*-*-samples.csv")
    is_shown = pd.MultiIndex.from_frame(samples[KIND]).isin(pd.MultiIndex.from_frame(rows[KIND]))
    drawing.draw_samples(samples[is_shown], folder / "samples.png")
    drawing.draw_kl(rows, gaussian, folder / "kl.png")
    drawing.draw_acceptance(rows, TARGET_ACCEPTANCE, folder / "acceptance.png")
    ends = by_fit(rows)
    ends = ends.assign(kl_gaussian=ends["target"].map(gaussian))
    notes = [*NOTES, *left_out, *measurements.notes(fits.__name__, [rows])]
    return Findings(ends, _table(ends), judged(rows, ends, gaussian), PICTURES, notes)


def _table(ends: pd.DataFrame) -> pd.DataFrame:
    found = []
    for (name, method), group in ends.groupby(["target", "method"], sort=False):
        found.append(
            {
                "target": drawing.title(name),
                "method": METHODS[method].title,
                "KL(q ‖ p), last quarter, nats (± se)": str(over_seeds(group, "kl_late")),
                "at the end (± se)": str(over_seeds(group, "kl")),
                "of the best Gaussian": f"{group['kl_gaussian'].iloc[0]:.4f}",
                "ms a step": f"{group['ms_per_step'].mean():.2f}",
                "acceptance": _where_any(group, "acceptance", 3),
                f"effective samples of {NUM_INNER}": _where_any(group, "effective_samples", 1),
                "sigma": f"{group['sigma_1'].mean():.3f}, {group['sigma_2'].mean():.3f}",
                "seeds": str(len(group)),
                "budget": ", ".join(group["budget"].unique()),
            }
        )
    return pd.DataFrame(found)


def _where_any(ends: pd.DataFrame, column: str, digits: int) -> str:
    """The mean, empty where the method has none."""
    return mean_and_deviation(ends[column].mean(), math.nan, digits) if column in ends else ""


def _read(folder: Path, pattern: str) -> pd.DataFrame:
    tables = [measurements.read(path, {}) for path in sorted(folder.glob(pattern))]
    found = [rows for rows in tables if len(rows)]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=KIND)


PICTURES = [
    Picture(
        "samples.png",
        f"{NUM_DRAWS:,} samples of q (seed 0) by each method, over contours of p with 10 to 99% of its mass.",
    ),
    Picture(
        "kl.png",
        "KL(q ‖ p) over training, a line for each seed, against iterations (above) and CPU seconds of training (below)."
        " Dashed: the best single Gaussian. Bars are one standard error of the estimate either way. KLs of more than"
        " ten times the best Gaussian's are above the frame.",
    ),
    Picture(
        "acceptance.png",
        "Mean acceptance of UIVI's chains since the last report, over training, a line for each seed; dashed: the"
        " target.",
    ),
]
NOTES = [
    "No figures are published for these targets, only pictures.",
    "The KL is an overestimate: log q is a mixture over 10,000 noises and the one that made z. At the end of one seed "
    "its standard error is that of ten independent repetitions, and over the last quarter that of the reports' mean, "
    "as if they were independent. Of several seeds it is that of the mean over seeds.",
    f"Importance samples, from q(ε) or from the learned proposal, and SIVI's fresh noises are {NUM_INNER} each, the "
    "defaults. The proposal is a diagonal Gaussian given z, by a network of 200 tanh units.",
    "Time is CPU time of the training's thread, the median over the reports, without the KL. So other work on the "
    "machine changes it little.",
    "Weights start by Glorot's rule, as everywhere in this project; and the mean acceptance probability adapts the "
    "step size, where the authors take the fraction of moves accepted.",
]
STUDY = Study(
    name="uivi_toys",
    target="toys",
    title="UIVI on two-dimensional targets",
    claim="UIVI fits densities that no Gaussian fits, with chains that accept nine moves of ten. Importance "
    "samples from a learned proposal reach the same KL in less time a step.",
    source="Titsias and Ruiz 2019, Section 5.1",
    reaches={
        "quick": f"10,000 of {PUBLISHED_STEPS:,} iterations by each of four methods, one seed",
        "day": f"{PUBLISHED_STEPS:,} iterations by each of four methods, 3 seeds",
        "paper": f"{PUBLISHED_STEPS:,} iterations by each of four methods, 3 seeds",
    },
    costs={"quick": "10 minutes on one core of an AMD EPYC"},
    sweeps=sweeps,
    find=find,
    measure=measure,
    order=8,
)
