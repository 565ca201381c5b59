"""Whether log A_u has two modes, one on each side of the threshold: few units lie near it, and many off it."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from evidence.evaluation import ACTIVE_THRESHOLD

FACTOR = 3.0  # near: within it of the threshold
TINY = 1e-12


class Modes(NamedTuple):
    """How many units lie from threshold / 3 to 3 thresholds, and in the fullest band as wide below and above it."""

    near: int
    below: int
    above: int

    @property
    def are_two(self) -> bool:
        """Both sides have a band with more than twice as many units as lie near the threshold."""
        return min(self.below, self.above) > 2 * self.near


def modes(activities: ArrayLike) -> Modes:
    """Of activities A_u [D]."""
    distance = np.log(np.maximum(np.asarray(activities, dtype=float), TINY) / ACTIVE_THRESHOLD) / np.log(
        FACTOR
    )
    is_near = np.abs(distance) <= 1
    return Modes(int(is_near.sum()), _fullest(distance[distance < -1]), _fullest(distance[distance > 1]))


def _fullest(distance: np.ndarray) -> int:
    """The largest number of points in a band of width 2."""
    return max((int(((distance >= start) & (distance <= start + 2)).sum()) for start in distance), default=0)
