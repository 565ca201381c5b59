"""Batches that are a function of (seed, step), so that training can start at any step with no state of its own.

Pass p goes through the training images in an order that is a pure function of (seed, p), and the noise that binarizes
those of step n is one of (seed, n). The set lies on the device as bytes: a step costs a few small kernels and no copy.
"""

from collections.abc import Iterator
from typing import NamedTuple

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


class Batches(NamedTuple):
    """The batches of one run. `train` is uint8 [N, X] on the device; a pixel is one with probability value / levels.

    Each pass is shuffled anew and draws each image once; the incomplete batch at its end is left out.
    """

    train: Tensor
    levels: int
    batch_size: int
    seed: int

    @classmethod
    def of(cls, dataset: Dataset, batch_size: int, seed: int, device: torch.device | str) -> "Batches":
        """Those of a run with this seed. Raises UserError where the set is smaller than one batch."""
        steps_per_pass(dataset, batch_size)
        return cls(dataset.train.to(device), dataset.levels, batch_size, seed)

    @property
    def steps(self) -> int:
        """Of a pass."""
        return len(self.train) // self.batch_size

    def order(self, number: int) -> Tensor:
        """int64 [steps, B], on the CPU: the images of each step of pass `number`."""
        used = self.steps * self.batch_size
        return pass_order(len(self.train), self.seed, number)[:used].view(self.steps, self.batch_size)

    def draw(self, rows: Tensor, seed: int | Tensor, step: int | Tensor) -> Tensor:
        """x [B, X] in {0, 1}: these images, binarized by the noise of (seed, step)."""
        pixels = self.train.index_select(0, rows).to(torch.get_default_dtype())
        if self.levels == 1:
            return pixels
        # Noise lies in (0, 1): value == levels always gives one, and 0 always zero.
        with drawing(Stream(seed, BINARIZATION, step)):
            return (uniform(pixels.shape, pixels) < pixels.div_(self.levels)).to(pixels.dtype)

    def after(self, step: int) -> Iterator[Tensor]:
        """x [B, X] of the steps after `step`, forever."""
        order = torch.empty(0)
        while True:
            number, position = divmod(step, self.steps)
            if position == 0 or not len(order):
                order = self.order(number).to(self.train.device)
            yield self.draw(order[position], self.seed, step)
            step += 1


def batches(
    dataset: Dataset, batch_size: int, seed: int, first_step: int, device: torch.device | str
) -> Iterator[Tensor]:
    """x of steps first_step, first_step + 1, ... forever: float32 [B, X] in {0, 1}, on the device.

    Raises UserError where the set is smaller than one batch.
    """
    return Batches.of(dataset, batch_size, seed, device).after(first_step)


def pass_order(images: int, seed: int, number: int) -> Tensor:
    """int64 [images]: the permutation of pass `number`, a function of (seed, number) alone."""
    mixed = np.random.SeedSequence([seed, number]).generate_state(1, np.uint64)
    return torch.randperm(images, generator=torch.Generator().manual_seed(int(mixed[0])))
