"""Names what a user's data set is hardly meant to be, though its numbers can be used."""

from collections.abc import Iterator

import numpy as np
from torch import Tensor

from evidence.data.sets import Dataset, mean_pixels

FEWER, MORE = 0.5, 2.0  # times the share of ones in the training images
KNOWN = 0.1  # of the images


def doubts(dataset: Dataset) -> Iterator[str]:
    """A line for each held-out set that has one image alone, other shares of ones, or images of the training set."""
    expected = float(mean_pixels(dataset).mean())
    trained = {*_rows(dataset.train)} if dataset.levels == 1 else set()
    for name in ("valid", "test"):
        images: Tensor = getattr(dataset, name)
        ones = float(np.count_nonzero(images.numpy()) / images.numel())
        if bool((images == images[:1]).all()):
            yield f"data.{name}: all {len(images)} images are the same"
        elif not FEWER * expected <= ones <= MORE * expected:
            yield (
                f"data.{name}: {ones:.2g} of the pixels are one, and of data.train {expected:.2g} on average: see how"
                " they are binarized"
            )
        known = sum(row in trained for row in _rows(images))
        if known > KNOWN * len(images):
            yield f"data.{name}: {known} of {len(images)} images are in data.train too"


def _rows(images: Tensor) -> Iterator[bytes]:
    return (row.tobytes() for row in images.numpy())
