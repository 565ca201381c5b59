"""Hamiltonian Monte Carlo against physics and against a Gaussian."""

import math
from itertools import pairwise

import torch
from torch import Tensor

from evidence import hmc


@hmc.differentiated
def oscillator(position: Tensor) -> Tensor:
    """H = (q^2 + p^2) / 2: q(t) = q0 cos t + p0 sin t."""
    return -0.5 * position.square().sum(-1)


def trajectory(step_size: float, time: float) -> tuple[hmc.HMCState, Tensor, Tensor]:
    state = hmc.init(torch.tensor([[1.0], [0.3]], dtype=torch.float64), oscillator)
    momentum = torch.tensor([[0.2], [-1.1]], dtype=torch.float64)
    end, end_momentum = hmc.leapfrog(state, momentum, oscillator, step_size, round(time / step_size))
    energy = -end.log_density + 0.5 * end_momentum.square().sum(-1)
    start = -state.log_density + 0.5 * momentum.square().sum(-1)
    return end, end_momentum, (energy - start).abs().max()


def test_leapfrog_follows_the_harmonic_oscillator() -> None:
    end, momentum, _ = trajectory(0.001, 2.0)
    cosine, sine = math.cos(2.0), math.sin(2.0)
    start = torch.tensor([[1.0], [0.3]], dtype=torch.float64)
    start_momentum = torch.tensor([[0.2], [-1.1]], dtype=torch.float64)
    torch.testing.assert_close(end.position, start * cosine + start_momentum * sine, rtol=0, atol=1e-6)
    torch.testing.assert_close(momentum, start_momentum * cosine - start * sine, rtol=0, atol=1e-6)


def test_energy_error_is_of_second_order_in_the_step() -> None:
    errors = [trajectory(step, 2.0)[2] for step in (0.1, 0.05, 0.025)]
    orders = [math.log2(coarse / fine) for coarse, fine in pairwise(errors)]
    assert all(abs(order - 2) < 0.02 for order in orders), orders


@hmc.differentiated
def quartic(position: Tensor) -> Tensor:
    return -(0.25 * position.pow(4) + 0.1 * position.pow(3)).sum(-1)


def test_a_differentiated_log_density_has_its_gradient_and_no_graph() -> None:
    position = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    with torch.no_grad():
        value, gradient = quartic(position)
    torch.testing.assert_close(value, -(position**4 / 4 + position**3 / 10).sum(-1).detach())
    torch.testing.assert_close(gradient, -(position**3 + 0.3 * position**2).detach())
    assert not value.requires_grad
    assert not gradient.requires_grad


def test_leapfrog_is_reversible() -> None:
    state = hmc.init(torch.randn(5, 3, dtype=torch.float64), quartic)
    momentum = torch.randn(5, 3, dtype=torch.float64)
    end, end_momentum = hmc.leapfrog(state, momentum, quartic, 0.1, 7)
    back, back_momentum = hmc.leapfrog(end, -end_momentum, quartic, 0.1, 7)
    torch.testing.assert_close(back.position, state.position)
    torch.testing.assert_close(-back_momentum, momentum)


@hmc.differentiated
def correlated(position: Tensor) -> Tensor:
    precision = torch.linalg.inv(torch.tensor([[1.0, 0.8], [0.8, 2.0]], dtype=position.dtype))
    return -0.5 * torch.einsum("...d,de,...e->...", position, precision, position)


def iterated(
    state: hmc.HMCState, target: hmc.ValueAndGradient, step_size: float, num_leapfrog: int
) -> tuple[hmc.HMCState, hmc.HMCInfo]:
    momentum, chance = torch.randn_like(state.position), torch.rand_like(state.log_density)
    return hmc.step(state, target, step_size, num_leapfrog, momentum, chance)


def test_a_gaussian_is_left_invariant_at_a_step_that_rejects_often() -> None:
    torch.manual_seed(0)
    covariance = torch.tensor([[1.0, 0.8], [0.8, 2.0]], dtype=torch.float64)
    chains = 40_000
    start = torch.randn(chains, 2, dtype=torch.float64) @ torch.linalg.cholesky(covariance).T
    state = hmc.init(start, correlated)
    rates = []
    for _ in range(5):
        state, info = iterated(state, correlated, 1.1, 3)
        rates.append(info.acceptance.mean())
    assert 0.3 < torch.stack(rates).mean() < 0.85  # else Metropolis' decision is not put to the test
    products = torch.einsum("nd,ne->nde", state.position, state.position)
    error = products.std(0) / math.sqrt(chains)
    assert ((products.mean(0) - covariance).abs() / error).max() < 5
    assert (state.position.mean(0).abs() / (state.position.std(0) / math.sqrt(chains))).max() < 5


def test_the_expected_acceptance_weight_is_one_at_equilibrium() -> None:
    """E exp(-dH) = 1 (Neal 2011, Section 5.4.2.2): a wrong sign or a missing half step breaks it."""
    torch.manual_seed(1)
    state = hmc.init(torch.randn(100_000, 1, dtype=torch.float64), oscillator)
    _, info = iterated(state, oscillator, 1.2, 2)
    weight = (-info.energy_error).exp()
    assert (weight.mean() - 1).abs() < 5 * weight.std() / math.sqrt(len(weight))
    torch.testing.assert_close(info.acceptance, weight.clamp(max=1))
    torch.testing.assert_close(info.is_accepted.double().mean(), info.acceptance.mean(), rtol=0, atol=5e-3)


def test_a_trajectory_that_leaves_the_numbers_is_rejected() -> None:
    state = hmc.init(torch.ones(4, 1, dtype=torch.float64), quartic)
    moved, info = iterated(state, quartic, 1e6, 5)
    assert not info.is_accepted.any()
    assert torch.equal(moved.position, state.position)
    assert torch.equal(info.acceptance, torch.zeros(4, dtype=torch.float64))


def test_rejected_chains_keep_their_whole_state() -> None:
    torch.manual_seed(2)
    state = hmc.init(torch.randn(200, 2, dtype=torch.float64), correlated)
    moved, info = iterated(state, correlated, 1.3, 3)
    assert 0 < info.is_accepted.sum() < 200
    again = hmc.init(moved.position, correlated)
    torch.testing.assert_close(moved.log_density, again.log_density)
    torch.testing.assert_close(moved.gradient, again.gradient)
    kept = ~info.is_accepted
    assert torch.equal(moved.position[kept], state.position[kept])
