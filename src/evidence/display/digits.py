"""How many digits a number is shown with."""

import math
from collections.abc import Iterable

SIGNIFICANT = 3  # digits of a small number
TINY = 1e-4  # what is smaller is shown as 1.20e-05


def decimals(values: Iterable[float], least: int) -> int:
    """At least `least`, and more where the smallest of the values that are not tiny would lose digits."""
    sizes = [abs(value) for value in values if math.isfinite(value) and abs(value) >= TINY]
    needed = SIGNIFICANT - 1 - math.floor(math.log10(min(sizes))) if sizes else 0
    return max(least, needed) if needed > SIGNIFICANT else least


def form(value: float, digits: int) -> str:
    """How to format the value, and an error that belongs to it."""
    return ".2e" if 0 < abs(value) < TINY else f".{digits}f"


def own_form(value: float, least: int) -> str:
    """The same of a value by itself."""
    return form(value, decimals([value], least))
