"""Densities against scipy and quadrature, samples against densities."""

import math

import pytest
import torch
from scipy import stats
from torch import Tensor
from torch.distributions import Independent, Normal

from evidence.distributions import Bernoulli, Chain, DiagonalNormal, SemiImplicit, kl_divergence
from evidence.networks import ConditionalNormal, SemiImplicitPosterior

pytestmark = pytest.mark.usefixtures("float64")


def normal() -> DiagonalNormal:
    return DiagonalNormal(torch.tensor([[0.5, -1.0, 2.0]]), torch.tensor([[0.3, 1.0, 2.5]]))


def chain(downwards: bool = False) -> Chain:
    sizes = [1, 2]
    inner, outer = (sizes[1], sizes[0]) if downwards else (sizes[0], sizes[1])
    first = DiagonalNormal(torch.full((3, inner), 0.4), torch.full((3, inner), 0.8))
    transition = ConditionalNormal(inner, [8], outer, "tanh")
    with torch.no_grad():
        transition.log_scale.weight.mul_(0.3)  # no scale so small that a grid would miss it
    return Chain(first, [transition], sizes, downwards)


def test_normal_log_prob_is_scipys() -> None:
    q, z = normal(), torch.randn(6, 1, 3)
    expected = stats.norm(q.mean.numpy(), q.scale.numpy()).logpdf(z.numpy()).sum(-1)
    torch.testing.assert_close(q.log_prob(z), torch.from_numpy(expected))


def test_normal_kl_is_torchs() -> None:
    q, p = normal(), DiagonalNormal(torch.tensor([0.1, 0.0, -3.0]), torch.tensor([2.0, 0.7, 0.2]))
    for prior in p, DiagonalNormal(torch.zeros(3), torch.ones(3)):
        ours, theirs = (Independent(Normal(each.mean, each.scale), 1) for each in (q, prior))
        torch.testing.assert_close(kl_divergence(q, prior), torch.distributions.kl_divergence(ours, theirs))


def test_bernoulli_log_prob_is_scipys_and_finite_at_extreme_logits() -> None:
    logits = torch.randn(5, 2, 4) * 3
    x = (torch.rand(2, 4) < 0.5).double()
    p = Bernoulli(logits)
    expected = stats.bernoulli(p.mean.numpy()).logpmf(x.expand(5, 2, 4).numpy()).sum(-1)
    torch.testing.assert_close(p.log_prob(x), torch.from_numpy(expected))
    extreme = Bernoulli(torch.tensor([[800.0, -800.0]]))
    torch.testing.assert_close(extreme.log_prob(torch.tensor([[0.0, 1.0]])), torch.tensor([-1600.0]))


@pytest.mark.parametrize("q", [normal(), chain(), chain(downwards=True)], ids=["normal", "up", "down"])
def test_a_sample_and_its_density_come_together(q: DiagonalNormal | Chain) -> None:
    noise = q.noise(5)
    z, log_prob = q.rsample_and_log_prob(noise)
    torch.testing.assert_close(q.rsample(noise), z, rtol=0, atol=0)
    torch.testing.assert_close(q.log_prob(z), log_prob)


@pytest.mark.parametrize("downwards", [False, True])
def test_a_chains_density_integrates_to_one(downwards: bool) -> None:
    torch.manual_seed(3)
    q = chain(downwards)
    grid = torch.linspace(-7, 7, 71)
    points = torch.cartesian_prod(grid, grid, grid).unsqueeze(1).expand(-1, 3, -1)
    mass = q.log_prob(points).exp().sum(0) * (grid[1] - grid[0]) ** 3
    torch.testing.assert_close(mass, torch.ones(3), rtol=0, atol=2e-3)


@pytest.mark.parametrize("downwards", [False, True])
def test_a_chains_expectation_is_its_samples_mean(downwards: bool) -> None:
    torch.manual_seed(4)
    q = chain(downwards)
    z = q.rsample(q.noise(40_000))
    estimates = torch.stack([q.expectation(100) for _ in range(400)])
    error = (z.var(0) / 40_000 + estimates.var(0) / 400).sqrt()
    assert ((z.mean(0) - estimates.mean(0)).abs() / error).max() < 5
    exact = slice(1, 3) if downwards else slice(0, 1)  # the first layer visited has a known mean
    assert estimates.std(0)[:, exact].max() < 1e-12


def semi_implicit(x: Tensor) -> tuple[SemiImplicitPosterior, SemiImplicit]:
    posterior = SemiImplicitPosterior(5, 3, [8, 8], 2, "relu", 0.5, 1e-5)
    return posterior, posterior(x)


def test_the_semi_implicit_mean_is_the_network_of_x_and_eps_together() -> None:
    x = torch.randn(4, 5)
    posterior, q = semi_implicit(x)
    eps = q.noise(6)
    together = torch.cat([x.expand(6, 4, 5), eps], -1)
    expected = posterior.rest(posterior.activation(posterior.first(together)))
    torch.testing.assert_close(q.mean(eps), expected)
    torch.testing.assert_close(q.conditional(eps).scale, torch.full((2,), 0.5))


def test_semi_implicit_samples_spread_by_eps_and_by_sigma() -> None:
    _, q = semi_implicit(torch.randn(1, 5))
    eps = torch.randn(1, 1, 3).expand(50_000, 1, 3)
    z = q.rsample(eps)
    assert (z.std(0) / 0.5 - 1).abs().max() < 5 / math.sqrt(2 * 50_000)
    assert q.rsample(q.noise(50_000)).std(0).min() > 0.55


def test_sigma_below_its_floor_is_floored_but_can_come_back() -> None:
    posterior = SemiImplicitPosterior(5, 3, [8], 2, "relu", 0.5, 1e-2)
    with torch.no_grad():
        posterior.scale.fill_(-3.0)
    scale = posterior(torch.randn(4, 5)).scale
    torch.testing.assert_close(scale, torch.full((2,), 1e-2))
    scale.sum().backward()
    torch.testing.assert_close(posterior.scale.grad, torch.ones(2))
