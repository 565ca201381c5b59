"""The problem that everybody is timed on: IWAE's one layer, 784-200-200-50, and what a worker is told of it.

Nothing here imports torch: the JAX peer runs without it.
"""

import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
PIXELS, HIDDEN, LATENT = 784, 200, 50
GREY = 255  # an image's bytes over this are the probabilities that its pixels are one
BATCH, UIVI_BATCH = 20, 100
LEARNING_RATE, ADAM_EPS = 1e-3, 1e-4
NUM_EXACT = 4  # samples backward exactly where not all are
FIRST_STEP = "first step done"  # what workers/first_step.py says


class Task(NamedTuple):
    """A worker's command line: the images, uint8 [N, 784], the device and options of its own."""

    images: np.ndarray
    device: str
    options: list[str]


def task() -> Task:
    """The command line of this process."""
    _, path, device, *options = sys.argv
    return Task(np.load(path), device, options)
