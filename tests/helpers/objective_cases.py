"""Every objective on a small model, and what runs of them are compared by."""

import shutil
from collections.abc import Callable

import problems
import pytest
import torch
from torch import Tensor

from evidence.models import LatentVariableModel, hierarchical
from evidence.networks import Critic
from evidence.objectives import ELBO, IWAE, SIVI, UIVI, CriticWeighted, Objective
from evidence.objectives.reverse_conditional import HMCSampler

X = problems.X_DIM
SEEDS = [3, 3 + 2**40, 5]
NEEDS_COMPILER = pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs g++")


def two_layers() -> LatentVariableModel:
    return hierarchical(X, [3, 2], [[4], [3]], "tanh", torch.full((X,), 0.4))


def critic(encoder: str, target: str) -> Objective:
    return CriticWeighted(2, encoder, target, 3.0, 4, Critic(X, [3], "tanh"))  # type: ignore[arg-type]


Make = Callable[[], tuple[LatentVariableModel, Objective]]
CASES: dict[str, Make] = {
    "vae": lambda: (problems.linear_gaussian(), ELBO(2)),
    "vae, analytic": lambda: (problems.linear_gaussian(), ELBO(2, "analytic")),
    "iwae": lambda: (problems.linear_gaussian(), IWAE(4)),
    "iwae, few samples": lambda: (problems.linear_gaussian(), IWAE(4, 1)),
    "iwae, two layers": lambda: (two_layers(), IWAE(4, 1)),
    "critic, literal": lambda: (problems.linear_gaussian(), critic("literal", "evidence")),
    "critic, path": lambda: (problems.linear_gaussian(), critic("path", "evidence")),
    "critic, path, two layers": lambda: (two_layers(), critic("path", "elbo")),
    "critic, elbo": lambda: (problems.linear_gaussian(), critic("elbo", "elbo")),
    "sivi": lambda: (problems.semi_implicit_gaussian(), SIVI(2, 3)),
    "uivi": lambda: (problems.semi_implicit_gaussian(), UIVI(1, HMCSampler(2, 2, 3, 0.1, 0.9, 0.05))),
}


def batch() -> Tensor:
    """x [6, X] of 0 and 1."""
    return (problems.images(6) > 0).double()


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    """Two states agree to 1e-9."""
    assert one.keys() == other.keys()
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=0, atol=1e-9)
