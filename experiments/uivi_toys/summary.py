"""The fits that can be compared, a row for each, and means over seeds with their standard errors."""

from typing import NamedTuple

import pandas as pd

from evidence.report import measurements
from experiments.uivi_toys import drawing, fits
from experiments.uivi_toys.methods import METHODS

FIT = ["target", "method", "seed"]
LATE = 0.75  # of a fit's steps: its late reports are those after


class Estimate(NamedTuple):
    """A figure, and its standard error."""

    mean: float
    se: float

    def __str__(self) -> str:
        return f"{self.mean:.4f} ± {self.se:.4f}" if self.mean < 10 else f"{self.mean:,.0f} ± {self.se:,.0f}"


def alike(rows: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Of each target the fits that the same code has fitted as long; and which were left out, and why.

    The longest fits; of these the most, and then today's code.
    """
    if rows.empty:
        return rows, []
    rows = rows.assign(steps=rows.groupby(FIT)["step"].transform("max"))
    today = measurements.source(fits.__name__)["source"]
    chosen, notes = [], []
    for target, group in rows.groupby("target", sort=False):
        kinds = dict(list(group.groupby(["steps", "source"])))
        count = {kind: len(kinds[kind].groupby(FIT)) for kind in kinds}
        best = max(kinds, key=lambda kind: (kind[0], count[kind], kind[1] == today))
        chosen.append(kinds.pop(best))
        for (steps, source), others in kinds.items():
            why = [f"{steps:,} steps, not {best[0]:,}"] * (steps != best[0])
            why += ["other code"] * (source != best[1])
            for method, fitted in others.groupby("method", sort=False):
                numbers = ", ".join(map(str, fitted["seed"].unique()))
                what = f"{drawing.title(str(target))} by {METHODS[str(method)].title}"
                notes.append(f"Left out of {what}: seed {numbers} ({', '.join(why)}).")
    return pd.concat(chosen, ignore_index=True), notes


def late(rows: pd.DataFrame) -> pd.DataFrame:
    """The reports of the last quarter of each fit."""
    return rows[rows["step"] > LATE * rows.groupby(FIT)["step"].transform("max")]


def by_fit(rows: pd.DataFrame) -> pd.DataFrame:
    """Each fit's last row, with `kl_late` and `kl_late_se`, mean and standard error of the KL over its late reports.

    `ms_per_step` is the median over its reports.
    """
    ends = rows[rows["step"] == rows.groupby(FIT)["step"].transform("max")].set_index(FIT)
    over_reports = late(rows).groupby(FIT)["kl"]
    milliseconds = 1e3 * rows.groupby(FIT)["seconds_per_step"].median()
    found = ends.assign(kl_late=over_reports.mean(), kl_late_se=over_reports.sem(), ms_per_step=milliseconds)
    return found.drop(columns="seconds_per_step").reset_index()


def over_seeds(ends: pd.DataFrame, value: str) -> Estimate:
    """The mean over the seeds of one method on one target. Of one seed, with the error in column `<value>_se`."""
    error = ends[value].sem() if len(ends) > 1 else ends[f"{value}_se"].iloc[0]
    return Estimate(ends[value].mean(), error)
