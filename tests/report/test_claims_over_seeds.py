"""A claim about several seeds is decided where the confidence interval of the difference leaves out zero."""

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from frames import frame

from experiments.critic import study as critic
from experiments.iwae_table1 import study as table1
from experiments.iwae_table2 import study as table2
from experiments.uivi_vae import study as uivi

LAST = {"stages": f"{3**7 * 2980} steps"}
FULL = {"data": "mnist_fixed", "k": 1, "stages": "400000 steps", "eval_samples": 1000}
PATH = {"objective": "critic", "variant": "encoder=path,target=evidence,bound=0.5,warmup=2000"}
# By study: cells with their figures, the better one last, and the place of the claim about it.
CELLS: list[tuple[ModuleType, int, list[dict[str, Any]]]] = [
    (
        table1,
        0,
        [
            {"objective": "vae", "k": 1, "test/nll": 86.8},
            {"objective": "iwae", "k": 5, "test/nll": 85.5},
            {"objective": "iwae", "k": 50, "test/nll": 84.8},
        ],
    ),
    (
        table2,
        0,
        [
            {"objective": "vae", "k": 1, "test/nll": 86.8, "test/active_units": 19.0},
            {"objective": "iwae", "init_from": "vae-1-8-{seed}-2026-01-01", **LAST, "test/nll": 84.9},
        ],
    ),
    (
        uivi,
        0,
        [
            {**FULL, "objective": "vae", "test/nll": 98.3},
            {**FULL, "objective": "uivi", "test/nll": 97.0, "test/nll_gaussian": 98.5},
        ],
    ),
    (
        critic,
        1,
        [
            {"objective": "vae", "k": 5, "stages": "2", "test/nll": 100.0},
            {**PATH, "k": 5, "stages": "2", "test/nll": 99.0},
        ],
    ),
]


def made(cells: list[dict[str, Any]], noise: tuple[float, ...]) -> Iterator[dict[str, Any]]:
    """Runs of these cells, a seed for each number, which is added to the last cell's NLL."""
    *others, better = cells
    for seed, added in enumerate(noise):
        for each in (*others, {**better, "test/nll": better["test/nll"] + added}):
            yield {
                name: value.format(seed=seed) if name == "init_from" else value
                for name, value in each.items()
            } | {"seed": seed}


@pytest.mark.parametrize(
    ("noise", "holds"),
    [
        ((0.0,), True),
        ((0.0, 0.1, -0.1), True),
        ((0.0, 2.0, -3.0), None),  # the mean is as low, and not told from zero
        ((20.0, 21.0, 20.5), False),
    ],
)
@pytest.mark.parametrize(("study", "place", "cells"), CELLS)
def test_a_claim_is_decided_by_the_interval(
    study: ModuleType,
    place: int,
    cells: list[dict[str, Any]],
    noise: tuple[float, ...],
    holds: bool | None,
    tmp_path: Path,
) -> None:
    found = study.find(frame(*made(cells, noise)), tmp_path)
    assert found.claims[place].holds is holds, found.claims[place]
