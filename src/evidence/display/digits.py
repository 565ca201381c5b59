"""How many decimals a number is shown with."""

import math
from collections.abc import Iterable

SIGNIFICANT = 3  # digits of a small number
MOST = 12  # decimals


def decimals(values: Iterable[float], least: int) -> int:
    """At least `least`, and more where the smallest of the values that are not zero would lose digits."""
    sizes = [abs(value) for value in values if math.isfinite(value) and value]
    needed = SIGNIFICANT - 1 - math.floor(math.log10(min(sizes))) if sizes else 0
    return max(least, min(MOST, needed)) if needed > SIGNIFICANT else least
