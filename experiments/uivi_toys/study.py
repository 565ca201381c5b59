"""Titsias and Ruiz 2019: UIVI on densities in two dimensions."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch

from evidence.numerics import forked_rng
from evidence.report import measurements
from evidence.report.compare import mean_and_deviation, seeds
from evidence.report.measurements import CPU
from evidence.report.study import Budget, Claim, Findings, Picture, Study
from experiments.uivi_toys import drawing, fits
from experiments.uivi_toys.fits import PUBLISHED_STEPS, TARGET_ACCEPTANCE, fit
from experiments.uivi_toys.gaussian_fit import fit_gaussian
from experiments.uivi_toys.targets import targets

NUM_DRAWS = 2_000  # of q, for the picture
KIND = ["target", "source"]  # what was fitted, by which code
SETTLED = 0.03  # of the acceptance's mean over the last quarter, from its target


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
    """<target>-s<seed>.csv, a row for each report, and <target>-samples.csv, draws of seed 0's q."""
    length = LENGTHS[budget]
    for seed in length.seeds:
        for name in targets():
            stem = folder / f"{name}-s{seed}"
            fitted = fit(name, seed, length.steps, stem.with_suffix(".pt"))
            measurements.write(stem.with_suffix(".csv"), pd.DataFrame(fitted.rows), "%.6g")
            if seed == 0:
                with forked_rng(CPU, seed), torch.no_grad():
                    q = fitted.model.posterior(torch.empty(1, 0))
                    z = pd.DataFrame(q.rsample(q.noise(NUM_DRAWS))[:, 0].double(), columns=["z_1", "z_2"])
                z.insert(0, "target", name)
                draws = z.assign(source=fitted.rows[-1]["source"])
                measurements.write(folder / f"{name}-samples.csv", draws, "%.6g")


def find(runs: pd.DataFrame, folder: Path) -> Findings:
    """From the CSV files in `folder`; there are no runs."""
    gaussian = {name: fit_gaussian(density).kl for name, density in targets(torch.float64).items()}
    rows, left_out = _alike(_read(folder, "*-s[0-9]*.csv"))
    if not len(rows):
        return Findings(pd.DataFrame(), pd.DataFrame(), _claims(rows, gaussian), [], NOTES)
    rows = rows.assign(kl_gaussian=rows["target"].map(gaussian))
    samples = _read(folder, "*-samples.csv")
    is_shown = pd.MultiIndex.from_frame(samples[KIND]).isin(pd.MultiIndex.from_frame(rows[KIND]))
    drawing.draw_samples(samples[is_shown], folder / "samples.png")
    drawing.draw_kl(rows, gaussian, folder / "kl.png")
    drawing.draw_acceptance(rows, TARGET_ACCEPTANCE, folder / "acceptance.png")
    ends = rows[rows["step"] == rows.groupby(["target", "seed"])["step"].transform("max")]
    notes = [*NOTES, *left_out, *measurements.notes(fits.__name__, [rows])]
    return Findings(ends.reset_index(drop=True), _table(ends), _claims(rows, gaussian), PICTURES, notes)


def _alike(rows: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Of each target the seeds that the same code has fitted as long; and which were left out, and why.

    The longest fits; of these those of most seeds, and then today's code.
    """
    if rows.empty:
        return rows, []
    rows = rows.assign(steps=rows.groupby(["target", "seed"])["step"].transform("max"))
    today = measurements.source(fits.__name__)["source"]
    chosen, notes = [], []
    for target, group in rows.groupby("target", sort=False):
        kinds = dict(list(group.groupby(["steps", "source"])))
        best = max(kinds, key=lambda kind: (kind[0], kinds[kind]["seed"].nunique(), kind[1] == today))
        chosen.append(kinds.pop(best))
        for (steps, source), others in kinds.items():
            why = [f"{steps:,} steps, not {best[0]:,}"] * (steps != best[0]) + ["other code"] * (
                source != best[1]
            )
            numbers = ", ".join(map(str, others["seed"].unique()))
            notes.append(f"Left out of {drawing.title(target)}: seed {numbers} ({', '.join(why)}).")
    return pd.concat(chosen, ignore_index=True), notes


def _table(ends: pd.DataFrame) -> pd.DataFrame:
    found = []
    for name, group in ends.groupby("target", sort=False):
        found.append(
            {
                "target": drawing.title(str(name)),
                "KL(q ‖ p), nats (± sd over seeds)": mean_and_deviation(
                    group["kl"].mean(), group["kl"].std(), 4
                ),
                "se of a seed's KL": f"{group['kl_se'].mean():.4f}",
                "of the best Gaussian": f"{group['kl_gaussian'].iloc[0]:.4f}",
                "acceptance": f"{group['acceptance'].mean():.3f}",
                "step size": f"{group['step_size'].mean():.3f}",
                "sigma": f"{group['sigma_1'].mean():.3f}, {group['sigma_2'].mean():.3f}",
                "seeds": str(len(group)),
                "budget": ", ".join(group["budget"].unique()),
            }
        )
    return pd.DataFrame(found)


def _claims(rows: pd.DataFrame, gaussian: dict[str, float]) -> list[Claim]:
    fits, settles = (
        "UIVI fits all three targets: KL(q ‖ p) ends below that of the best single Gaussian.",
        f"The acceptance of its chains settles at its target of {TARGET_ACCEPTANCE:g}.",
    )
    if not len(rows) or set(rows["target"]) != set(gaussian):
        return [Claim(fits, None, "not measured"), Claim(settles, None, "not measured")]
    better, near, kls, means = [], [], [], []
    for name, group in rows.groupby("target", sort=False):
        last = group[group["step"] == group.groupby("seed")["step"].transform("max")]
        worst = last.loc[last["kl"].idxmax()]
        better.append(worst["kl"] + 3 * worst["kl_se"] < gaussian[name])
        kls.append(f"{drawing.title(name)} {worst['kl']:.3f} ± {worst['kl_se']:.3f} of {gaussian[name]:.3f}")
        late = group[group["step"] > 0.75 * group.groupby("seed")["step"].transform("max")]
        by_seed = late.groupby("seed")["acceptance"].mean()
        near.append((by_seed - TARGET_ACCEPTANCE).abs().max() < SETTLED)
        means.append(f"{drawing.title(name)} {by_seed.min():.3f} to {by_seed.max():.3f}")
    counts = rows.groupby("target")["seed"].nunique()
    trained = " and ".join(f"{steps:,} steps" for steps in rows["steps"].unique()) + f", {seeds(*counts)}"
    return [
        Claim(fits, all(better), f"the worst seed, nats (± its se): {'; '.join(kls)}; {trained}"),
        Claim(
            settles,
            all(near),
            f"mean over the last quarter, lowest to highest of {seeds(*counts)}: {'; '.join(means)}",
        ),
    ]


def _read(folder: Path, pattern: str) -> pd.DataFrame:
    tables = [measurements.read(path, {}) for path in sorted(folder.glob(pattern))]
    found = [rows for rows in tables if len(rows)]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=KIND)


PICTURES = [
    Picture(
        "samples.png", f"{NUM_DRAWS:,} samples of q (seed 0) over contours of p with 10 to 99% of its mass."
    ),
    Picture(
        "kl.png",
        "KL(q ‖ p) over training, a line for each seed, and that of the best single Gaussian (dashed, of the same"
        " colour). Bars are one standard error of the estimate either way.",
    ),
    Picture(
        "acceptance.png",
        "Mean acceptance of the chains since the last report, over training, a line for each seed; dashed: the target.",
    ),
]
NOTES = [
    "No figures are published for these targets, only pictures.",
    "The KL is an overestimate: log q is a mixture over 10,000 noises and the one that made z. Its standard error is "
    "that of ten independent repetitions.",
    "Weights start by Glorot's rule, as everywhere in this project; and the mean acceptance probability adapts the "
    "step size, where the authors take the fraction of moves accepted.",
]
STUDY = Study(
    name="uivi_toys",
    target="toys",
    title="UIVI on two-dimensional targets",
    claim="UIVI fits densities that no Gaussian fits, with chains that accept nine moves of ten.",
    source="Titsias and Ruiz 2019, Section 5.1",
    reaches={
        "quick": f"10,000 of {PUBLISHED_STEPS:,} iterations, one seed",
        "day": f"{PUBLISHED_STEPS:,} iterations, 3 seeds",
        "paper": f"{PUBLISHED_STEPS:,} iterations, 3 seeds",
    },
    costs={"quick": "9 minutes on one core of an AMD EPYC"},
    sweeps=sweeps,
    find=find,
    measure=measure,
    order=7,
)
