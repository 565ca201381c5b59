"""Hamiltonian Monte Carlo over a batch of independent chains, as pure functions of the state.

A chain at position q with momentum p ~ N(0, I) follows the dynamics of H(q, p) = -log pi(q) + |p|^2 / 2 by the
leapfrog integrator and accepts the end point with probability min(1, exp(-dH)), which leaves pi invariant
(Neal 2011, "MCMC using Hamiltonian dynamics", Section 5.3). Every leading dimension is a chain of its own.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

LogDensity = Callable[[Tensor], Tensor]  # position [..., D] -> log pi(position) + any constant, [...]
# The same and its gradient [..., D], in no graph.
ValueAndGradient = Callable[[Tensor], tuple[Tensor, Tensor]]


class HMCState(NamedTuple):
    """Where the chains are: position [..., D], log_density [...], gradient [..., D] of the latter."""

    position: Tensor
    log_density: Tensor
    gradient: Tensor


class HMCInfo(NamedTuple):
    """What happened in one iteration, each [...]: min(1, exp(-dH)), the decision, and dH."""

    acceptance: Tensor
    is_accepted: Tensor
    energy_error: Tensor


def differentiated(log_density: LogDensity) -> ValueAndGradient:
    """`log_density` with its gradient by automatic differentiation; by hand it can cost half as much and less."""

    def summed(position: Tensor) -> tuple[Tensor, Tensor]:
        value = log_density(position)
        return value.sum(), value

    def value_and_gradient(position: Tensor) -> tuple[Tensor, Tensor]:
        gradient, (_, value) = torch.func.grad_and_value(summed, has_aux=True)(position.detach())
        return value.detach(), gradient

    return value_and_gradient


def init(position: Tensor, value_and_gradient: ValueAndGradient) -> HMCState:
    """The state at `position`."""
    return HMCState(position, *value_and_gradient(position))


def leapfrog(
    state: HMCState,
    momentum: Tensor,
    value_and_gradient: ValueAndGradient,
    step_size: Tensor | float,
    num_leapfrog: int,
) -> tuple[HMCState, Tensor]:
    """`num_leapfrog` steps of the leapfrog integrator, with an error in H of order step_size^2; reversible."""
    momentum = momentum + 0.5 * step_size * state.gradient
    for index in range(num_leapfrog):
        state = init(state.position + step_size * momentum, value_and_gradient)
        last = index == num_leapfrog - 1
        momentum = momentum + (0.5 if last else 1.0) * step_size * state.gradient
    return state, momentum


def step(
    state: HMCState,
    value_and_gradient: ValueAndGradient,
    step_size: Tensor | float,
    num_leapfrog: int,
    momentum: Tensor,
    chance: Tensor,
) -> tuple[HMCState, HMCInfo]:
    """One iteration of every chain: a trajectory from the momenta [..., D], and Metropolis' decision.

    `momentum` is standard normal, `chance` [...] uniform on (0, 1). A trajectory that leaves the numbers (dH NaN or
    +inf) is rejected.
    """
    proposal, end_momentum = leapfrog(state, momentum, value_and_gradient, step_size, num_leapfrog)
    energy_error = (
        state.log_density
        - proposal.log_density
        + 0.5 * (end_momentum.square().sum(-1) - momentum.square().sum(-1))
    )
    acceptance = torch.exp(-energy_error).clamp(max=1.0).nan_to_num(nan=0.0)
    is_accepted = chance < acceptance
    here = is_accepted.unsqueeze(-1)
    new_state = HMCState(
        torch.where(here, proposal.position, state.position),
        torch.where(is_accepted, proposal.log_density, state.log_density),
        torch.where(here, proposal.gradient, state.gradient),
    )
    return new_state, HMCInfo(acceptance, is_accepted, energy_error)
