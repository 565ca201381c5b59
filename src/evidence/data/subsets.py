"""Which images a subset of a set has: spread evenly, since a file of images may be sorted by class."""

import torch
from torch import Tensor


def evenly_spaced(images: Tensor, count: int | None) -> Tensor:
    """`count` images spread evenly over the set, in its order."""
    if count is None or count >= len(images):
        return images
    return images[evenly_spaced_rows(len(images), count)]


def evenly_spaced_rows(total: int, count: int | None) -> Tensor:
    """Which of `total` images `evenly_spaced` takes, int64 [count]."""
    count = total if count is None else min(count, total)
    return torch.arange(count) * total // count
