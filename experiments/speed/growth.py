"""How a training step's time and memory grow with k, batch, latent units and stochastic layers.

Each point is a process of its own, so that its peak memory is its own, forked from one that has imported torch.
"""

import multiprocessing
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

from experiments.speed.setting import BATCH, LATENT, NUM_EXACT
from experiments.speed.turns import spread

REPETITIONS = 3
SECONDS = 0.2  # of one repetition


class Point(NamedTuple):
    """A model and a step to be measured; `sweep` names the one thing that varies and `value` is it."""

    sweep: str
    value: int
    backward: Literal["all", "top"]
    k: int = 50
    batch: int = BATCH
    latent: int = LATENT
    layers: int = 1


class Measured(NamedTuple):
    """A point's milliseconds for a step, and what training adds to its process's memory at the peak.

    On a GPU: the most that tensors there have taken.
    """

    sweep: str
    value: int
    backward: str
    device: str
    median_ms: float
    lowest_ms: float
    highest_ms: float
    added_mib: float


SWEEPS: dict[str, tuple[int, ...]] = {
    "k": (1, 5, 50, 500, 5000),
    "batch": (1, 5, 20, 100, 500),
    "latent": (2, 10, 50, 200, 1000),
    "layers": (1, 2, 3, 4),
}


def points() -> Iterator[Point]:
    """Every sweep, with the gradient of all samples and with that of a few."""
    for sweep, values in SWEEPS.items():
        for backward in ("all", "top"):
            for value in values:
                yield Point(sweep, value, backward, **{sweep: value})


def measure(images: Path, device: str) -> list[Measured]:
    """All points, one at a time; as it stands, since each would have to be compiled anew."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["experiments.speed.workers.building", "torch._dynamo"])  # seconds each
    with ProcessPoolExecutor(1, context, max_tasks_per_child=1) as pool:
        return list(pool.map(partial(measure_point, str(images), device), points()))


def measure_point(images_path: str, device_name: str, point: Point) -> Measured:
    """In a fresh process: one step to warm up, then as many as fit, three times."""
    import numpy as np
    import torch

    from evidence.objectives import IWAE
    from experiments.speed.workers import building
    from experiments.speed.workers.protocol import peak_mib

    images, device = np.load(images_path), torch.device(device_name)
    building.set_up(device)
    torch.manual_seed(0)
    model = building.one_layer(images, [point.latent] * point.layers)
    objective = IWAE(point.k, None if point.backward == "all" else NUM_EXACT)
    run = building.loop(model, objective, images, point.batch, device, 1)
    milliseconds = []
    before = peak_mib()
    run(1)
    for _ in range(REPETITIONS):
        began, done = time.perf_counter(), 0
        while done == 0 or time.perf_counter() - began < SECONDS:
            done += run(1)
        milliseconds.append(1e3 * (time.perf_counter() - began) / done)
    added = torch.cuda.max_memory_allocated() / 2**20 if device.type == "cuda" else peak_mib() - before
    return Measured(point.sweep, point.value, point.backward, device_name, *spread(milliseconds), added)
