"""Densities of kinds that are hard to check: both wrong, mixtures, a detached z, a degenerate or discrete one."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import own_models
import problems
import pytest
import torch
from torch import Tensor, nn

from evidence import models
from evidence.distributions import DiagonalNormal
from evidence.errors import UserError
from evidence.models import LatentVariableModel
from evidence.objectives import ELBO, IWAE, RWS, STL, TVO, DReG, Objective
from evidence.trial.densities import check_densities

PIXELS = 12
LOG_2PI = math.log(2 * math.pi)


class Own(NamedTuple):
    """A student's normal distribution, with so much of its log density."""

    mean: Tensor
    scale: Tensor
    of_scale: float = 1.0
    constant: float = 1.0
    is_detached: bool = False

    def noise(self, count: int) -> Tensor:
        return DiagonalNormal(self.mean, self.scale).noise(count)

    def rsample(self, noise: Tensor) -> Tensor:
        z = self.mean + self.scale * noise
        return z.detach() if self.is_detached else z

    def rsample_and_log_prob(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        z = self.rsample(noise)
        return z, self.log_prob(z)

    def log_prob(self, z: Tensor) -> Tensor:
        squares = ((z - self.mean) / self.scale).square()
        return -(0.5 * squares + self.of_scale * self.scale.log() + 0.5 * self.constant * LOG_2PI).sum(-1)

    def expectation(self, count: int) -> Tensor:
        return self.mean


class OwnPrior(nn.Module):
    def __init__(self, latent: int, **wrong: Any) -> None:
        super().__init__()
        self.wrong = wrong
        self.log_scale = nn.Parameter(torch.zeros(latent))

    def forward(self) -> Own:
        return Own(torch.zeros_like(self.log_scale), self.log_scale.exp(), **self.wrong)


class OwnPosterior(nn.Module):
    def __init__(self, inner: nn.Module, **wrong: Any) -> None:
        super().__init__()
        self.inner, self.wrong = inner, wrong

    def forward(self, x: Tensor) -> Own:
        q = self.inner(x)
        return Own(q.mean, 0.5 * q.scale, **self.wrong)


def hierarchical(latent: int = 3) -> tuple[LatentVariableModel, Tensor]:
    model = models.hierarchical(PIXELS, [latent], [[8]], "tanh", torch.full((PIXELS,), 0.4))
    return model, torch.bernoulli(torch.full((3, PIXELS), 0.4))


def both(latent: int = 3, **wrong: Any) -> tuple[LatentVariableModel, Tensor]:
    model, x = hierarchical(latent)
    model.prior, model.posterior = OwnPrior(latent, **wrong), OwnPosterior(model.posterior, **wrong)
    return model, x


def of_posterior(latent: int = 3, **wrong: Any) -> tuple[LatentVariableModel, Tensor]:
    model, x = hierarchical(latent)
    model.posterior = OwnPosterior(model.posterior, **wrong)
    return model, x


class Mixture(NamedTuple):
    """A mixture of normal distributions, of which some of the weight is missing."""

    means: Tensor
    scales: Tensor
    missing: float

    def noise(self, count: int) -> Tensor:
        return torch.randn(count, self.means.shape[-1])

    def rsample(self, noise: Tensor) -> Tensor:
        chosen = torch.randint(len(self.means), noise.shape[:-1])
        return self.means[chosen] + self.scales[chosen] * noise

    def log_prob(self, z: Tensor) -> Tensor:
        each = DiagonalNormal(self.means, self.scales).log_prob(z.unsqueeze(-2))
        return each.logsumexp(-1) - math.log(len(self.means)) + self.missing


class MixturePrior(nn.Module):
    def __init__(self, count: int, latent: int, spread: float, missing: float) -> None:
        super().__init__()
        self.means = nn.Parameter(spread * torch.randn(count, latent))
        self.log_scales = nn.Parameter(0.3 * torch.randn(count, latent))
        self.missing = missing

    def forward(self) -> Mixture:
        return Mixture(self.means, self.log_scales.exp(), self.missing)


def with_mixture(
    count: int, latent: int, spread: float, missing: float
) -> tuple[LatentVariableModel, Tensor]:
    model, x = hierarchical(latent)
    model.prior = MixturePrior(count, latent, spread, missing)
    return model, x


class Curved(Mixture):
    """Its components are no normal distributions."""

    def rsample(self, noise: Tensor) -> Tensor:
        return super().rsample(noise + noise**3)


class CurvedPrior(MixturePrior):
    def forward(self) -> Mixture:
        return Curved(self.means, self.log_scales.exp(), self.missing)


WRONG: dict[str, Callable[[], tuple[LatentVariableModel, Tensor]]] = {
    "no scale": lambda: both(of_scale=0.0, constant=0.0),
    "half a scale": lambda: both(of_scale=0.5),
    "two constants": lambda: both(of_scale=0.5, constant=0.3),
    "detached": lambda: of_posterior(of_scale=0.5, is_detached=True),
    "many units": lambda: of_posterior(400, of_scale=0.5),
    "mixture": lambda: with_mixture(10, 3, 3.0, math.log(10)),
    "large mixture": lambda: with_mixture(500, 40, 3.0, math.log(500)),
    "mixture, too small": lambda: with_mixture(30, 10, 0.3, -0.7),
    "one component": lambda: with_mixture(1, 3, 1.0, 0.5),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_density_is_refused(case: str) -> None:
    with pytest.raises(
        UserError, match=r"log [pq]\(z.* is .* they must be equal, constants included"
    ) as caught:
        check_densities(*WRONG[case]())
    assert "\n" not in str(caught.value)


RIGHT: dict[str, Callable[[], tuple[LatentVariableModel, Tensor]]] = {
    "no constants": lambda: both(constant=0.0),
    "whole": lambda: both(),
    "detached": lambda: of_posterior(is_detached=True),
    "many units": lambda: of_posterior(400),
    "mixture": lambda: with_mixture(10, 3, 3.0, 0.0),
    "large mixture": lambda: with_mixture(500, 40, 3.0, 0.0),
    "mixture of many near": lambda: with_mixture(30, 10, 0.3, 0.0),
}


@pytest.mark.parametrize("case", RIGHT)
def test_a_right_density_is_taken(case: str) -> None:
    for seed in range(3 if "mixture" in case else 1):
        torch.manual_seed(seed)
        assert check_densities(*RIGHT[case]()) == []


class Simplex(Own):
    """A relaxed categorical, with another density than its own."""

    def rsample(self, noise: Tensor) -> Tensor:
        return super().rsample(noise).softmax(-1)


class SimplexPosterior(OwnPosterior):
    def forward(self, x: Tensor) -> Own:
        return Simplex(*super().forward(x))


class Bits(Own):
    """0 or 1, and the log probability of it."""

    def rsample(self, noise: Tensor) -> Tensor:
        return (self.mean + noise > 0).to(noise)

    def log_prob(self, z: Tensor) -> Tensor:
        one = torch.distributions.Normal(0.0, 1.0).cdf(self.mean)
        return torch.where(z > 0.5, one, 1 - one).clamp(min=1e-6).log().sum(-1)

    def expectation(self, count: int) -> Tensor:
        return torch.distributions.Normal(0.0, 1.0).cdf(self.mean)


class BitsPosterior(OwnPosterior):
    def forward(self, x: Tensor) -> Own:
        return Bits(*super().forward(x))


class BitsPrior(OwnPrior):
    def forward(self) -> Own:
        return Bits(*super().forward())


def test_what_cannot_be_compared_is_noted() -> None:
    model, x = hierarchical()
    model.posterior = SimplexPosterior(model.posterior)
    (note,) = check_densities(model, x)
    assert (
        "SimplexPosterior: log q(z | x) could not be compared with the z that are drawn: dz/deps has no"
        in note
    )
    model, x = hierarchical()
    model.prior = CurvedPrior(4, 3, 1.0, 0.0)
    (note,) = check_densities(model, x)
    assert (
        "CurvedPrior: log p(z) could not be compared with the z that are drawn: of a mixture that takes normal"
        in note
    )


def discrete() -> LatentVariableModel:
    model = problems.linear_gaussian()
    model.prior, model.posterior = BitsPrior(problems.Z_DIM), BitsPosterior(model.posterior)
    return model


def test_discrete_units_are_taken_by_objectives_that_need_no_derivative_of_z() -> None:
    model, x = hierarchical()
    model.prior, model.posterior = BitsPrior(3), BitsPosterior(model.posterior)
    assert check_densities(model, x) == []
    for right in (RWS(4, "wake"), TVO(4, 3, None)):
        own_models.tried(discrete(), right)
    wrong: list[Objective] = [ELBO(1), IWAE(4), DReG(4), STL(4)]
    for objective in wrong:
        with pytest.raises(
            UserError, match=r"takes the derivative of z.*BitsPosterior has none: choose objective=rws"
        ):
            own_models.tried(discrete(), objective)
