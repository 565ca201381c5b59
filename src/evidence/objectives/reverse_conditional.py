"""Samplers of UIVI's reverse conditional q(eps | z, x), proportional to q(eps) q(z | eps, x).

A sampler is called with q(z | x), z [K, B, D], the eps [K, B, E] that made it and the images x [B, X], and returns
eps' [S, K, B, E] with metrics to report. UIVI takes one as an argument. Importance sampling is biased, of order 1/S.
"""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor, nn

from evidence import hmc
from evidence.compiling import fused_step
from evidence.distributions import LOG_2PI, SemiImplicit
from evidence.streams import normal, uniform


class ReverseSamples(NamedTuple):
    """eps' [S, K, B, E], out of any graph, and what the sampler has to report.

    log_ratio: log q(eps') - log tau(eps') [S, K, B] where eps' are drawn from another density tau; None where they
    are draws from q(eps | z, x). ascended: [K, B], whose gradient the sampler's own parameters ascend, or None.
    """

    eps: Tensor
    metrics: dict[str, Tensor]
    log_ratio: Tensor | None = None
    ascended: Tensor | None = None


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


@cache
def _fused_iteration() -> Callable[..., tuple[hmc.HMCState, hmc.HMCInfo]]:
    """hmc.step, compiled when it is first called, and once for all chains of an architecture."""
    return fused_step(hmc.step)


class HMCSampler(nn.Module):
    """One chain for each image and z, started at the eps that made z, itself an exact draw from the target.

    Each of `burn_in` iterations adapts the step size, step *= 1 + rate (acceptance - target) / target, which is
    carried on from call to call; `num_samples` further iterations are kept (Titsias and Ruiz 2019, Section 3.2 and
    code: 5 + 5 iterations of 5 leapfrog steps, target 0.9, rate 0.01). The acceptance that adapts is the mean
    probability, whose expectation is the fraction of accepted moves that the authors use. Where `is_compiled`, an
    iteration is one graph; torch.vmap does not take it then.
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
        self.is_compiled = False

    @torch.no_grad()
    def forward(self, q: SemiImplicit, z: Tensor, eps: Tensor, x: Tensor) -> ReverseSamples:
        """eps' from `num_samples` successive states of the chains."""
        value_and_gradient = target(q, z.detach())
        state = hmc.init(eps, value_and_gradient)
        kept, acceptances = [], []
        iterations = self.burn_in + self.num_samples
        iterate = _fused_iteration() if self.is_compiled else hmc.step
        momenta = normal((iterations, *eps.shape), eps)
        chances = uniform((iterations, *eps.shape[:-1]), eps)
        for iteration in range(iterations):
            state, info = iterate(
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


class ImportanceSampler(nn.Module):
    """eps'_s ~ q(eps), weighed by q(z | eps'_s, x): the plain baseline of AISIVI (https://arxiv.org/abs/2506.03839).

    UIVI's gradient is then SIVI's along the path, for a mixture over eps'_s without the eps that made z.
    """

    def __init__(self, num_samples: int) -> None:
        super().__init__()
        self.num_samples = num_samples

    @torch.no_grad()
    def forward(self, q: SemiImplicit, z: Tensor, eps: Tensor, x: Tensor) -> ReverseSamples:
        """eps' from q(eps), whose log-ratios are zero."""
        drawn = normal((self.num_samples, *eps.shape), eps)
        return ReverseSamples(drawn, {}, drawn.new_zeros(drawn.shape[:-1]))


class LearnedSampler(nn.Module):
    """eps'_s ~ tau(eps | z, x), a network, weighed by q(eps'_s) q(z | eps'_s, x) / tau(eps'_s | z, x).

    tau ascends log tau(eps | z, x) on the eps that made z, a draw from q(eps | z, x), at a learning rate of `rate`
    times that of the rest: it is the maximum likelihood fit to the reverse conditional (AISIVI).
    """

    def __init__(self, num_samples: int, rate: float, proposal: nn.Module) -> None:
        super().__init__()
        self.num_samples, self.relative_rate = num_samples, rate
        self.proposal = proposal

    def forward(self, q: SemiImplicit, z: Tensor, eps: Tensor, x: Tensor) -> ReverseSamples:
        """eps' from tau, out of the graph, and log tau at the eps that made z, in it."""
        tau = self.proposal(z.detach(), x)
        ascended = tau.log_prob(eps.detach())
        with torch.no_grad():
            drawn, log_tau = tau.rsample_and_log_prob(tau.noise(self.num_samples))
            log_q = -0.5 * (drawn.square() + LOG_2PI).sum(-1)
        return ReverseSamples(
            drawn, {"reverse/log_proposal": ascended.detach().mean()}, log_q - log_tau, ascended
        )
