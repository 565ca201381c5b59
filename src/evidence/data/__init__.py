"""Images as bytes, checked before use, and the stream of batches they become.

mirrors.py fetches files, sources.py trusts none of them unchecked, sets.py splits and binarizes, checks.py refuses
a data set whose numbers would mean nothing, doubts.py notes what is hardly meant, batches.py streams, subsets.py
chooses images to score.
"""

from evidence.data.batches import Batches, batches, steps_per_pass
from evidence.data.checks import check
from evidence.data.doubts import doubts
from evidence.data.sets import (
    Dataset,
    Labels,
    digits,
    fashion_mnist,
    mean_pixels,
    mnist,
    mnist_fixed,
    omniglot,
)
from evidence.data.subsets import evenly_spaced, evenly_spaced_rows

__all__ = [
    "Batches",
    "Dataset",
    "Labels",
    "batches",
    "check",
    "digits",
    "doubts",
    "evenly_spaced",
    "evenly_spaced_rows",
    "fashion_mnist",
    "mean_pixels",
    "mnist",
    "mnist_fixed",
    "omniglot",
    "steps_per_pass",
]
