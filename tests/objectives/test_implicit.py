"""UIVI and SIVI on a semi-implicit posterior whose marginal and reverse conditional are Gaussian and known."""

from itertools import pairwise

import problems
import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from evidence.distributions import SemiImplicit
from evidence.networks import SemiImplicitPosterior
from evidence.objectives import SIVI, UIVI
from evidence.objectives.reverse_conditional import HMCSampler, ReverseSamples, target

pytestmark = pytest.mark.usefixtures("float64")

X = problems.images(1).double()  # which these samplers of the reverse conditional do not look at


def hmc(burn_in: int, num_samples: int = 5) -> HMCSampler:
    return HMCSampler(burn_in, num_samples, 5, 0.2, 0.9, 0.01).double()


def worst(objective: UIVI, repeats: int, copies: int = 50) -> dict[str, float]:
    """Each parameter's deviation of the mean gradient from the exact ELBO's, in standard errors."""
    model, x = problems.semi_implicit_gaussian(), problems.images(3)
    exact = problems.gradients(problems.exact_elbo(model, x).mean(), model)
    many = x.repeat(copies, 1)
    draws = problems.gradient_draws(lambda: objective(model, many), model, repeats)
    return {name: problems.deviation(draws[name], exact[name]) for name in exact}


def exact_sampler(num_samples: int = 5) -> problems.ExactReverseConditional:
    return problems.ExactReverseConditional(problems.semi_implicit_gaussian().posterior, num_samples)


@pytest.mark.parametrize("k", [1, 3])
def test_uivis_gradient_is_the_elbos_with_the_exact_reverse_conditional(k: int) -> None:
    found = worst(UIVI(k, exact_sampler()), repeats=300)
    assert max(found.values()) < 5, found


def test_uivis_gradient_is_the_elbos_with_a_long_chain() -> None:
    found = worst(UIVI(1, hmc(burn_in=40, num_samples=2)), repeats=60)
    assert max(found.values()) < 5, found


def test_uivis_surrogate_is_equation_10_to_rounding() -> None:
    """grad_z taken at fixed eps', then through dz/dtheta. A score term of q left in is zero on average, so that the
    tests of the mean cannot see it: it would only add variance."""
    model, x = problems.semi_implicit_gaussian(), problems.images(4)
    posterior = model.posterior

    def fixed(q: SemiImplicit, z: Tensor, eps: Tensor, x: Tensor) -> ReverseSamples:
        return ReverseSamples(eps.flip(1).unsqueeze(0) * torch.tensor([0.5, -1.0]).view(2, 1, 1, 1), {})

    torch.manual_seed(8)
    found = problems.gradients(UIVI(3, fixed)(model, x).surrogate.sum(), posterior)
    torch.manual_seed(8)
    q = posterior(x)
    eps = q.noise(3)
    z = q.rsample(eps)
    leaf = z.detach().requires_grad_()
    log_q = posterior(x).conditional(fixed(q, z, eps, x).eps).log_prob(leaf).mean(0)
    (grad_z,) = torch.autograd.grad((model.log_joint(x, leaf) - log_q).mean(0).sum(), leaf)
    expected = problems.gradients((grad_z * z).sum(), posterior)
    for name in expected:
        torch.testing.assert_close(found[name], expected[name])


def generating(q: SemiImplicit, z: Tensor, eps: Tensor, x: Tensor) -> ReverseSamples:
    """The fault of a sampler that hands back the eps that made z."""
    return ReverseSamples(eps.unsqueeze(0), {})


def test_the_generating_eps_in_place_of_the_reverse_conditional_fails() -> None:
    assert max(worst(UIVI(1, generating), repeats=300).values()) > 50


def test_the_short_chains_bias_falls_with_burn_in() -> None:
    """Started at the eps that made z, a chain forgets it only with time; log sigma feels it most."""
    found = [worst(UIVI(1, hmc(burn_in, 1)), repeats=100)["posterior.log_scale"] for burn_in in (0, 3, 20)]
    assert found[0] - found[1] > 5 * 2**0.5, found  # a difference of two, each with an error of one
    assert found[1] > 5 > found[2], found


def test_the_chain_draws_from_the_reverse_conditional() -> None:
    model = problems.semi_implicit_gaussian()
    q = model.posterior(problems.images(1).expand(20_000, -1))
    with torch.no_grad():
        fixed = q.conditional(torch.zeros(1, 20_000, 3)).mean + 0.4
        samples, metrics = hmc(30, 1)(q, fixed, q.noise(1), X)[:2]
        exact = exact_sampler(1)(q, fixed, samples[0], X).eps
    for moment in (lambda e: e, lambda e: e.square(), lambda e: e * e.roll(1, -1)):
        found, known = moment(samples[0, 0]), moment(exact[0, 0])
        error = (found.var(0) + known.var(0)).sqrt() / 20_000**0.5
        assert ((found.mean(0) - known.mean(0)).abs() / error).max() < 5
    assert 0.5 < metrics["hmc/acceptance"] < 1


def test_the_step_size_adapts_towards_the_target_and_is_carried_on() -> None:
    model, x = problems.semi_implicit_gaussian(), problems.images(50)
    sampler = HMCSampler(5, 5, 5, 0.02, 0.9, 0.2).double()
    objective = UIVI(1, sampler)
    rates = [objective(model, x).metrics["hmc/acceptance"] for _ in range(80)]
    assert rates[0] > 0.99
    assert abs(torch.stack(rates[-20:]).mean() - 0.9) < 0.03
    assert sampler.step_size > 0.2
    assert "reverse_conditional.step_size" in objective.state_dict()
    resting = HMCSampler(0, 5, 5, 0.02, 0.9, 0.2)
    UIVI(1, resting)(model, x)
    assert resting.step_size == 0.02  # kept iterations do not adapt it


def test_the_chain_leaves_no_graph_and_no_gradient_in_the_posterior() -> None:
    model, x = problems.semi_implicit_gaussian(), problems.images(4)
    q = model.posterior(x)
    eps = q.noise(1)
    samples = hmc(1)(q, q.rsample(eps), eps, X).eps
    assert not samples.requires_grad
    assert all(parameter.grad is None for parameter in model.parameters())
    q, z, eps = network_and_draw([6, 5], "relu")
    assert q.scale.requires_grad  # not frozen
    assert not hmc(1)(q, z.requires_grad_(), eps, X).eps.requires_grad


by_hand = pytest.mark.parametrize(
    ("hidden", "activation"), [([7, 6], "relu"), ([7, 6, 5], "tanh"), ([6], "relu")]
)


def network_and_draw(hidden: list[int], activation: str) -> tuple[SemiImplicit, Tensor, Tensor]:
    """q(z | x) by a network, its biases and sigmas no two alike, with eps and z in two samples an image."""
    posterior = SemiImplicitPosterior(4, 3, hidden, 2, activation, 0.5, 1e-5)
    with torch.no_grad():
        for parameter in posterior.parameters():
            parameter.add_(0.1 * torch.rand_like(parameter))
    q = posterior(problems.images(9))
    eps = q.noise(2)
    return q, q.rsample(eps).detach(), eps


@by_hand
def test_the_gradient_by_hand_is_autograds(hidden: list[int], activation: str) -> None:
    q, z, eps = network_and_draw(hidden, activation)
    with torch.no_grad():
        value, gradient = target(q, z)(eps)
        expected_value, expected = target(q._replace(pullback=None), z)(eps)
    torch.testing.assert_close(gradient, expected)
    torch.testing.assert_close(value - value[0, 0], expected_value - expected_value[0, 0])


@by_hand
def test_the_chain_by_hand_is_autograds(hidden: list[int], activation: str) -> None:
    """The same draws, the same decisions, the same step sizes: many rejected, or decisions would not be tried."""
    q, z, eps = network_and_draw(hidden, activation)
    found = []
    for either in (q, q._replace(pullback=None)):
        torch.manual_seed(3)
        found.append(HMCSampler(5, 5, 5, 0.9, 0.9, 0.01).double()(either, z, eps, X))
    torch.testing.assert_close(found[0].eps, found[1].eps, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found[0].metrics, found[1].metrics)
    assert 0.2 < found[0].metrics["hmc/acceptance"] < 0.9


def sivi_bound(num_noises: int, repeats: int = 300, copies: int = 400) -> tuple[float, float]:
    model, x = problems.semi_implicit_gaussian(), problems.images(3).repeat(copies, 1)
    draws = [SIVI(2, num_noises)(model, x).surrogate.detach().mean() for _ in range(repeats)]
    values = torch.stack(draws)
    return values.mean().item(), values.std().item() / repeats**0.5


def test_sivis_bound_rises_to_the_elbo_from_below() -> None:
    model, x = problems.semi_implicit_gaussian(), problems.images(3)
    elbo = problems.exact_elbo(model, x).mean().item()
    found = [sivi_bound(num_noises) for num_noises in (1, 4, 30)]
    ladder = [*found, (elbo, 0.0)]
    for (low, low_error), (high, high_error) in pairwise(ladder):
        assert high - low > 5 * (low_error**2 + high_error**2) ** 0.5
    value, error = sivi_bound(3000, repeats=50, copies=10)
    assert abs(value - elbo) < 5 * error


def test_sivis_gradient_is_that_of_its_bound() -> None:
    problems.assert_differentiable(problems.semi_implicit_gaussian(), SIVI(2, 4), problems.images(3))


def test_the_problems_own_marginal_is_right() -> None:
    """The oracle itself: draws of z have the covariance it claims."""
    model = problems.semi_implicit_gaussian()
    q = model.posterior(problems.images(1).expand(50_000, -1))
    with torch.no_grad():
        z = q.rsample(q.noise(1))[0]
        exact = MultivariateNormal(q.mean(torch.zeros(50_000, 3))[0], model.posterior.covariance())
        centred = z - exact.mean
    products = torch.einsum("nd,ne->nde", centred, centred)
    assert problems.deviation(products, exact.covariance_matrix.detach()) < 5
