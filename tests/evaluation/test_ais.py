"""Annealed importance sampling against exact log-evidence, from both sides."""

import math

import problems
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal

from evidence.evaluation import ais
from evidence.evaluation.ais import AnnealedImportanceSampling
from evidence.models import LatentVariableModel
from evidence.streams import Stream, drawing

pytestmark = pytest.mark.usefixtures("float64")


def sampler(temperatures: int = 10, chains: int = 4, simulated: bool = False) -> AnnealedImportanceSampling:
    return AnnealedImportanceSampling(chains, temperatures, 3, 0.3, 0.65, simulated)


def simulated(count: int) -> tuple[LatentVariableModel, Tensor, Tensor, Tensor]:
    """The linear-Gaussian model, z [1, B, D] of its prior, x [B, X] of its likelihood at z, and log p(x) [B]."""
    model, z = problems.linear_gaussian(), torch.randn(1, count, problems.Z_DIM)
    with torch.no_grad():
        x = model.likelihood(z).sample()[0]
    return model, z, x, problems.exact_log_evidence(model, x)


def fixed(temperatures: int, count: int, step: float = 0.3) -> Tensor:
    return torch.full((temperatures, count), step)


@torch.no_grad()
def test_the_weights_have_the_evidence_as_their_mean_and_its_inverse_backwards() -> None:
    """However few the temperatures: nothing is approximate but the variance."""
    method = sampler(chains=20)
    model, z, x, exact = simulated(2_000)
    draws = ais._Draws(20, x, problems.Z_DIM)
    steps = fixed(10, 2_000)
    forward = (method.forward(model, x, steps, draws)[0] - exact).exp().mean(0)
    backward = (exact - method.reverse(model, x, z, steps, draws)).exp().mean(0)
    for ratios in (forward, backward):
        assert abs(ratios.mean() - 1) < 5 * ratios.std() / 2_000**0.5
        assert ratios.std() > 0.01  # the test is of a mean


@torch.no_grad()
def test_the_bounds_average_weights_forwards_and_their_inverses_backwards() -> None:
    """exp of the lower bound is p(x) on average, and exp of minus the upper one 1/p(x): of several chains too."""
    method = sampler(chains=3)
    model, z, x, exact = simulated(3_000)
    draws = ais._Draws(3, x, problems.Z_DIM)
    lower, upper = method.bounds(model, x, z, fixed(10, 3_000), draws)
    for ratios in ((lower - exact).exp(), (exact - upper).exp()):
        assert abs(ratios.mean() - 1) < 5 * ratios.std() / 3_000**0.5


@torch.no_grad()
def test_more_temperatures_close_in_on_the_exact_value() -> None:
    model, z, x, exact = simulated(200)
    gaps = []
    for temperatures in (4, 32, 256):
        method, draws = sampler(temperatures, chains=1), ais._Draws(1, x, problems.Z_DIM)
        steps = fixed(temperatures, 200)
        lower = method.forward(model, x, steps, draws)[0][0]
        upper = method.reverse(model, x, z, steps, draws)[0]
        assert lower.mean() < exact.mean() < upper.mean()
        gaps.append(float((upper - lower).mean()))
    assert gaps[0] > 3 * gaps[1] > 9 * gaps[2]
    assert gaps[2] < 0.05


@torch.no_grad()
def test_a_transition_leaves_its_distribution_invariant_and_its_step_size_is_fixed() -> None:
    """At beta = 1 on draws of the exact posterior; the mean acceptance is that of the step size given."""
    model, method = problems.with_exact_posterior(), sampler()
    x = problems.images(1).expand(20_000, -1)
    q = model.posterior(x)
    z, acceptance = method._transition(
        model, x, q.sample(1), 1.0, torch.full((20_000,), 0.8), ais._Draws(1, x, 2)
    )
    assert 0.3 < acceptance.mean() < 0.95
    assert problems.deviation(z[0], q.mean[0]) < 5
    assert problems.deviation((z[0] - q.mean).square(), q.scale[0].square()) < 5


@torch.no_grad()
def test_step_sizes_are_tuned_towards_the_target_before_they_count() -> None:
    model, method = problems.linear_gaussian(), sampler(temperatures=200)
    x = problems.images(5)
    draws = ais._Draws(4, x, problems.Z_DIM)
    steps = method.tuned(model, x, draws)
    assert steps.shape == (200, 5)
    kept = steps.clone()
    _, acceptance = method.forward(model, x, steps, draws)
    assert torch.equal(steps, kept)
    assert (steps[-1] > 2 * method.step_size).all()
    assert ((acceptance > 0.6) & (acceptance < 0.98)).all()


@torch.no_grad()
def test_the_metric_brackets_the_log_evidence_of_simulated_images() -> None:
    model, x = problems.linear_gaussian(), problems.images(100)
    found = sampler(100, simulated=True)(model, x, torch.zeros(1, 100))
    exact = problems.exact_log_evidence(model, x)
    assert (found["nll_ais"] + exact).abs().mean() < 0.3
    assert found["bdmc_gap"].mean() == pytest.approx(
        float((found["bdmc_nll_upper"] - found["bdmc_nll_lower"]).mean())
    )
    assert 0 < found["bdmc_gap"].mean() < 0.2
    assert all(value.shape == (100,) for value in found.values())


@torch.no_grad()
def test_noise_depends_on_the_image_and_on_no_other_image() -> None:
    model, x = problems.linear_gaussian(), problems.images(6)

    def found(numbers: list[int]) -> dict[str, Tensor]:
        with drawing(Stream(3, 5, images=torch.tensor(numbers))):
            return sampler(simulated=True)(model, x[numbers], torch.zeros(1, len(numbers)))

    whole, part = found([0, 1, 2, 3, 4, 5]), found([4, 1])
    for name, value in whole.items():
        torch.testing.assert_close(value[[4, 1]], part[name])
    assert len({float(value) for value in whole["nll_ais"]}) == 6


class Mixture(nn.Module):
    """Two Gaussians. It draws a component for each of its rows of noise [K, D]."""

    def forward(self) -> "Mixture":
        return self

    def noise(self, num_samples: int) -> Tensor:
        return torch.randn(num_samples, problems.Z_DIM)

    def rsample(self, noise: Tensor) -> Tensor:
        assert noise.dim() == 2
        return noise + torch.tensor([-1.0, 1.0])[torch.randint(2, (len(noise), 1))]

    def log_prob(self, z: Tensor) -> Tensor:
        each = [Normal(mean, 1.0).log_prob(z).sum(-1) for mean in (-1.0, 1.0)]
        return torch.stack(each).logsumexp(0) - math.log(2)


def test_a_prior_is_given_noise_as_everywhere_else() -> None:
    model = problems.linear_gaussian()
    model.prior = Mixture()
    x = problems.images(3)
    found = sampler(simulated=True)(model, x, torch.zeros(1, 3))
    assert all(value.shape == (3,) and value.isfinite().all() for value in found.values())
