"""An endless stream of batches that can be taken up at any step, bit for bit, with no state of its own.

Pass p goes through the training images in an order that is a pure function of (seed, p), and the noise that binarizes
those of step n is one of (seed, n). The set lies on the device as bytes: a step costs a few small kernels and no copy.
"""

import itertools
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from evidence.data.sets import Dataset
from evidence.errors import UserError
from evidence.streams import BINARIZATION, Stream, drawing, uniform


def steps_per_pass(dataset: Dataset, batch_size: int) -> int:
    """Whole batches in the training set; raises UserError where there is not even one."""
    steps = len(dataset.train) // batch_size
    if steps == 0:
        raise UserError(
            f"trainer.batch_size={batch_size}: the data set has only {len(dataset.train)} training images"
        )
    return steps


def batches(
    dataset: Dataset, batch_size: int, seed: int, first_step: int, device: torch.device | str
) -> Iterator[Tensor]:
    """x of steps first_step, first_step + 1, ... forever: float32 [B, X] in {0, 1}, on the device.

    Each pass is shuffled anew and draws each image once; the incomplete batch at its end is left out.
    Raises UserError where the set is smaller than one batch.
    """
    steps = steps_per_pass(dataset, batch_size)  # here, not in the generator, so that it raises at once
    return _stream(dataset.train.to(device), dataset.levels, batch_size, steps, seed, first_step)


def pass_order(images: int, seed: int, number: int) -> Tensor:
    """int64 [images]: the permutation of pass `number`, a function of (seed, number) alone."""
    mixed = np.random.SeedSequence([seed, number]).generate_state(1, np.uint64)
    return torch.randperm(images, generator=torch.Generator().manual_seed(int(mixed[0])))


def _stream(
    train: Tensor, levels: int, batch_size: int, steps: int, seed: int, first_step: int
) -> Iterator[Tensor]:
    first_pass, done = divmod(first_step, steps)
    for number in itertools.count(first_pass):
        order = (
            pass_order(len(train), seed, number)[: steps * batch_size]
            .view(steps, batch_size)
            .to(train.device)
        )
        for step, rows in enumerate(order[done:], number * steps + done):
            pixels = train.index_select(0, rows).to(torch.float32)
            if levels > 1:
                # Noise lies in (0, 1): value == levels always gives one, and 0 always zero.
                with drawing(Stream(seed, BINARIZATION, step)):
                    pixels = uniform(pixels.shape, pixels).lt_(pixels.div_(levels))
            yield pixels
        done = 0
