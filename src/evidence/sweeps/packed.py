"""Trains the jobs of a sweep together: those of one form in one stack, and a process for each GPU."""

import itertools
import multiprocessing
import os
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

import torch

from evidence.config import compose, limits
from evidence.records import identity

SHARE = 0.5  # of the memory that is free: a step's graph and libraries need the other half
MOST = 64  # jobs at a time: on an H100 thirty stacked runs take two thirds of the time of ten, and more gain little


Config = Any  # of a job, as Hydra composes it
Run = Callable[[Sequence[Config]], list[float | None]]  # runs jobs together, in one process


def train(configs: Sequence[Config], n_jobs: int | None, run: Run) -> list[float | None]:
    """What the jobs of these configs return, in their order. At most `n_jobs` train at a time on a device.

    Without `n_jobs` they are as many as fit into half of its memory.
    """
    settings = [compose.settings(config) for config in configs]
    forms = [identity.settings_form(each.model_dump(by_alias=True)) for each in settings]
    gpus = 0 if settings[0].device == "cpu" else torch.cuda.device_count()
    shares = deal(forms, max(1, gpus))
    largest = max(limits.bytes_of(each) for each in settings)
    most = n_jobs or max(1, min(MOST, int(SHARE * _memory(gpus) / largest)))
    if len(shares) == 1:
        found = [_train_share(run, most, [configs[number] for number in shares[0]], None)]
    else:
        spawned = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
        with ProcessPoolExecutor(len(shares), spawned) as pool:
            work = [[configs[number] for number in share] for share in shares]
            found = list(pool.map(partial(_train_share, run, most), work, range(len(shares))))
    results = dict(zip(itertools.chain(*shares), itertools.chain(*found), strict=True))
    return [results[number] for number in range(len(configs))]


def deal(forms: Sequence[Hashable], devices: int) -> list[list[int]]:
    """The numbers of the jobs for each device, those of one form one after the other.

    Jobs of one form stay on one device unless that would leave another with less than its share.
    """
    alike: dict[Hashable, list[int]] = {}
    for number, form in enumerate(forms):
        alike.setdefault(form, []).append(number)
    most = -(-len(forms) // devices)
    pieces = [
        numbers[first : first + most] for numbers in alike.values() for first in range(0, len(numbers), most)
    ]
    shares: list[list[int]] = [[] for _ in range(devices)]
    for piece in sorted(pieces, key=len, reverse=True):
        min(shares, key=len).extend(piece)
    return [share for share in shares if share]


def _train_share(run: Run, most: int, configs: Sequence[Config], device: int | None) -> list[float | None]:
    """On one device: of those that are visible the one with this number, or what the settings say."""
    if device is not None:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        os.environ["CUDA_VISIBLE_DEVICES"] = visible.split(",")[device] if visible else str(device)
    found: list[float | None] = []
    # The precision holds for a whole process.
    for _, alike in itertools.groupby(configs, lambda config: config.precision):
        together = list(alike)
        for first in range(0, len(together), most):
            found += run(together[first : first + most])
    return found


def _memory(gpus: int) -> int:
    """In bytes: what is free on the GPU with the least of it, or all that the machine has."""
    if gpus:
        return min(torch.cuda.mem_get_info(number)[0] for number in range(gpus))
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
