"""Samplers of UIVI's reverse conditional q(eps | z, x), proportional to q(eps) q(z | eps, x).

A sampler is called with q(z | x), z [K, B, D] and the eps [K, B, E] that made it, and returns eps' [S, K, B, E]
with metrics to report. UIVI takes one as an argument.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from evidence import hmc
from evidence.distributions import SemiImplicit
from evidence.streams import normal, uniform


class ReverseSamples(NamedTuple):
    """eps' [S, K, B, E], out of any graph, and what the sampler has to report."""

    eps: Tensor
    metrics: dict[str, Tensor]


def target(q: SemiImplicit, z: Tensor) -> hmc.ValueAndGradient:
    """log q(eps) + log q(z | eps, x) and its gradient -eps + (d mean / d eps)^T (z - mean(eps)) / sigma^2.

    eps [..., B, E], z [..., B, D]. By hand where q brings the pullback of its mean, and up to a constant.
    """
    pullback = q.pullback
    if pullback is None:
        return hmc.differentiated(lambda eps: -0.5 * eps.square().sum(-1) + q.conditional(eps).log_prob(z))
    precision = q.scale.square().reciprocal()

    def value_and_gradient(eps: Tensor) -> tuple[Tensor, Tensor]:
        mean, pull = pullback(eps)
        residual = z - mean
        weighted = residual * precision
        value = -0.5 * (torch.linalg.vecdot(eps, eps) + torch.linalg.vecdot(residual, weighted))
        return value, pull(weighted) - eps

    return value_and_gradient


class HMCSampler(nn.Module):
    """One chain for each image and z, started at the eps that made z, itself an exact draw from the target.

    Each of `burn_in` iterations adapts the step size, step *= 1 + rate (acceptance - target) / target, which is
    carried on from call to call; `num_samples` further iterations are kept (Titsias and Ruiz 2019, Section 3.2 and
    code: 5 + 5 iterations of 5 leapfrog steps, target 0.9, rate 0.01). The acceptance that adapts is the mean
    probability, whose expectation is the fraction of accepted moves that the authors use.
    """

    step_size: Tensor

    def __init__(
        self,
        burn_in: int,
        num_samples: int,
        num_leapfrog: int,
        step_size: float,
        target_acceptance: float,
        adaptation_rate: float,
    ) -> None:
        super().__init__()
        self.burn_in, self.num_samples, self.num_leapfrog = burn_in, num_samples, num_leapfrog
        self.target_acceptance, self.adaptation_rate = target_acceptance, adaptation_rate
        self.register_buffer("step_size", torch.tensor(step_size))

    @torch.no_grad()
    def forward(self, q: SemiImplicit, z: Tensor, eps: Tensor) -> ReverseSamples:
        """eps' from `num_samples` successive states of the chains."""
        value_and_gradient = target(q, z)
        state = hmc.init(eps, value_and_gradient)
        kept, acceptances = [], []
        iterations = self.burn_in + self.num_samples
        momenta = normal((iterations, *eps.shape), eps)
        chances = uniform((iterations, *eps.shape[:-1]), eps)
        for iteration in range(iterations):
            state, info = hmc.step(
                state,
                value_and_gradient,
                self.step_size,
                self.num_leapfrog,
                momenta[iteration],
                chances[iteration],
            )
            acceptances.append(info.acceptance.mean())
            if iteration < self.burn_in:
                error = (acceptances[-1] - self.target_acceptance) / self.target_acceptance
                self.step_size.mul_(1 + self.adaptation_rate * error)
            else:
                kept.append(state.position)
        metrics = {"hmc/acceptance": torch.stack(acceptances).mean(), "hmc/step_size": self.step_size.clone()}
        return ReverseSamples(torch.stack(kept), metrics)
