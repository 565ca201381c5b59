"""Every objective on a small model, and what runs of them are compared by."""

import shutil
from collections.abc import Callable

import problems
import pytest
import torch
from torch import Tensor

from evidence.models import LatentVariableModel, hierarchical
from evidence.networks import Critic, ReverseProposal
from evidence.objectives import (
    CIWAE,
    ELBO,
    IWAE,
    MIWAE,
    PIWAE,
    RWS,
    SIVI,
    STL,
    TVO,
    UIVI,
    VRIWAE,
    CriticWeighted,
    DReG,
    Objective,
    RWSDReG,
)
from evidence.objectives.reverse_conditional import HMCSampler, ImportanceSampler, LearnedSampler

X = problems.X_DIM
SEEDS = [3, 3 + 2**40, 5]
NEEDS_COMPILER = pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs g++")


def two_layers() -> LatentVariableModel:
    return hierarchical(X, [3, 2], [[4], [3]], "tanh", torch.full((X,), 0.4))


def critic(encoder: str, target: str) -> Objective:
    return CriticWeighted(2, encoder, target, 3.0, 4, Critic(X, [3], "tanh"))  # type: ignore[arg-type]


def proposal() -> ReverseProposal:
    return ReverseProposal(problems.Z_DIM, X, problems.NOISE_DIM, [3], "tanh")


Make = Callable[[], tuple[LatentVariableModel, Objective]]
# Of those that weigh samples, each kind of derivative, by all samples (None) and by few.
WEIGHTED: dict[str, Callable[[int | None], Objective]] = {
    "dreg": lambda num_exact: DReG(4, num_exact),
    "stl": lambda num_exact: STL(4, num_exact),
    "rws_dreg": lambda num_exact: RWSDReG(4, num_exact),
    "rws, wake": lambda num_exact: RWS(4, "wake", num_exact),
    "rws, sleep": lambda num_exact: RWS(4, "sleep", num_exact),
    "miwae": lambda num_exact: MIWAE(4, 2, num_exact),
    "piwae": lambda num_exact: PIWAE(4, 2, num_exact),
    "ciwae": lambda num_exact: CIWAE(4, 0.3, num_exact),
    "vr_iwae": lambda num_exact: VRIWAE(4, 0.3, False, num_exact),
    "vr_iwae, doubly": lambda num_exact: VRIWAE(4, 0.3, True, num_exact),
    "tvo": lambda num_exact: TVO(4, 3, 0.1, num_exact),
}
CASES: dict[str, Make] = {
    "vae": lambda: (problems.linear_gaussian(), ELBO(2)),
    "vae, analytic": lambda: (problems.linear_gaussian(), ELBO(2, "analytic")),
    "iwae": lambda: (problems.linear_gaussian(), IWAE(4)),
    "iwae, few samples": lambda: (problems.linear_gaussian(), IWAE(4, 1)),
    "iwae, two layers": lambda: (two_layers(), IWAE(4, 1)),
    **{name: lambda make=make: (problems.linear_gaussian(), make(None)) for name, make in WEIGHTED.items()},  # type: ignore[misc]
    **{
        f"{name}, few samples": lambda make=WEIGHTED[name]: (problems.linear_gaussian(), make(1))  # type: ignore[misc]
        for name in ("dreg", "rws, wake", "piwae", "tvo")
    },
    **{
        f"{name}, two layers": lambda make=WEIGHTED[name]: (two_layers(), make(None))  # type: ignore[misc]
        for name in ("dreg", "rws, sleep", "piwae")
    },
    "critic, literal": lambda: (problems.linear_gaussian(), critic("literal", "evidence")),
    "critic, path": lambda: (problems.linear_gaussian(), critic("path", "evidence")),
    "critic, path, two layers": lambda: (two_layers(), critic("path", "elbo")),
    "critic, elbo": lambda: (problems.linear_gaussian(), critic("elbo", "elbo")),
    "sivi": lambda: (problems.semi_implicit_gaussian(), SIVI(2, 3)),
    "uivi": lambda: (problems.semi_implicit_gaussian(), UIVI(1, HMCSampler(2, 2, 3, 0.1, 0.9, 0.05))),
    "uivi, importance": lambda: (problems.semi_implicit_gaussian(), UIVI(1, ImportanceSampler(4))),
    "uivi, learned": lambda: (problems.semi_implicit_gaussian(), UIVI(1, LearnedSampler(4, 0.5, proposal()))),
}


def batch() -> Tensor:
    """x [6, X] of 0 and 1."""
    return (problems.images(6) > 0).double()


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    """Two states agree to 1e-9."""
    assert one.keys() == other.keys()
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=0, atol=1e-9)
