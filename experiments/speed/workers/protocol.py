"""How a worker talks with turns.py: a line `case count` in, a line `seconds peak` out.

The first time it hears of a case it builds it, so the first answer holds compilation and is never counted.
"""

import os
import resource
import sys
import time
from collections.abc import Callable

Run = Callable[
    [int], int
]  # takes at least so many steps, waits until they are done, and says how many they were


def serve(prepare: Callable[[str], Run]) -> None:
    """Answer until the driver goes away."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints is not an answer
    cases: dict[str, Run] = {}
    for line in sys.stdin:
        case, count = line.split()
        began = time.perf_counter()
        if case not in cases:
            cases[case] = prepare(case)
        done = cases[case](int(count))
        print((time.perf_counter() - began) / done, peak_mib(), file=answers)


def peak_mib() -> float:
    """The most memory this process has ever held, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
