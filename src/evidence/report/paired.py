"""Compares two cells of like runs by their differences over the seeds that both have."""

import math
from collections.abc import Iterable
from typing import NamedTuple

import pandas as pd

from evidence.report.compare import seeds

CONFIDENCE = 0.95  # that a difference of several seeds is not zero, by Student's t


class Paired(NamedTuple):
    """Differences of runs of one seed: their mean, its standard error (missing for one seed), and their number."""

    mean: float
    se: float
    seeds: int

    @property
    def sign(self) -> int:
        """-1 or 1; 0 where the confidence interval over seeds has zero. One seed is judged by its sign alone."""
        if math.isnan(self.mean) or (self.seeds > 1 and abs(self.mean) <= errors(self.seeds) * self.se):
            return 0
        return int(self.mean > 0) - int(self.mean < 0)

    def __str__(self) -> str:
        if not self.seeds:
            return "not measured"
        error = "" if math.isnan(self.se) else f" ± {self.se:.2f}"
        return f"{self.mean:+.2f}{error}"


def errors(seeds: int) -> float:
    """Half the width of the interval in standard errors: 12.7 of two seeds, 4.3 of three, 2.8 of five."""
    from scipy.special import stdtrit  # slow to import

    return float(stdtrit(seeds - 1, (1 + CONFIDENCE) / 2))


UNMEASURED = Paired(math.nan, math.nan, 0)


def by_seed(runs: pd.DataFrame, metric: str) -> "pd.Series[float]":
    """The metric of like runs by their seed, without the runs that lack it."""
    if metric not in runs:
        return pd.Series(dtype=float)
    return runs.set_index("seed")[metric].dropna().astype(float)


def paired(ours: "pd.Series[float]", theirs: "pd.Series[float]") -> Paired:
    """Ours less theirs. Both are by seed."""
    return of_gaps(ours - theirs)


def of_gaps(gaps: "pd.Series[float]") -> Paired:
    """The differences of pairs. A missing one is left out."""
    known = gaps.dropna()
    return Paired(known.mean(), known.sem(), len(known))


def all_below(differences: Iterable[Paired], or_equal: bool = False) -> bool | None:
    """Whether all are below zero. None where one is not measured, or is not told from zero.

    With `or_equal` a mean that is not above zero is enough. None where it is above and is not told from zero.
    """
    each = list(differences)
    signs = [difference.sign for difference in each]
    if not each or not all(difference.seeds for difference in each):
        return None
    if 1 in signs:
        return False
    holds = all(difference.mean <= 0 for difference in each) if or_equal else 0 not in signs
    return True if holds else None


def over(differences: Iterable[Paired]) -> str:
    """What the differences rest on, in words: "one seed", or "3 seeds (± se over seeds)"."""
    words = seeds(*(difference.seeds for difference in differences))
    return words if words == "one seed" else f"{words} (± se over seeds)"
