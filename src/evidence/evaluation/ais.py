"""Annealed importance sampling of log p(x) (Neal 2001), from both sides (Grosse et al. 2015; Wu et al. 2017).

pi_t is proportional to p(z) p(x | z)^beta_t, with beta_0 = 0 < ... < beta_T = 1. A chain starts at a draw of p(z). Its
log-weight gains (beta_t - beta_{t-1}) log p(x | z), and then a transition of HMC leaves pi_t invariant, for t = 1 to T.
E w = p(x), so log (1/S) sum w is a lower bound in expectation. The reverse chain starts at a draw of p(z | x) and goes
through the same transitions backwards: E 1/w = 1/p(x), and -log (1/S) sum 1/w is an upper bound in expectation. For an
image that the model simulates, the z that it was simulated from is such a draw.
"""

import copy
from collections.abc import Iterator

import torch
from torch import Tensor

from evidence import hmc
from evidence.evaluation.scoring import ANNEALED_CHANCES, ANNEALED_MOMENTA, ANNEALED_STARTS, SIMULATED
from evidence.models import LatentVariableModel
from evidence.numerics import log_mean_exp
from evidence.streams import normal, samples, uniform


def schedule(num_temperatures: int) -> Tensor:
    """beta_0 ... beta_T, [T + 1]: a sigmoid on [-4, 4], scaled to begin at 0 and end at 1 (Wu et al. 2017, code)."""
    points = torch.linspace(-4, 4, num_temperatures + 1, dtype=torch.float64).sigmoid()
    return (points - points[0]) / (points[-1] - points[0])


class AnnealedImportanceSampling:
    """A metric of `eval.metrics`: `nll_ais`, an upper bound on -log p(x) in expectation, of S chains for an image.

    With `simulated` it also simulates as many images as it is given, and holds their log p(x) from both sides:
    `bdmc_nll_upper`, `bdmc_nll_lower` and `bdmc_gap`, their difference (bidirectional Monte Carlo). The gap is the sum
    of both errors there, so in expectation it bounds each of them.

    A first round adapts the step size of each temperature and image towards `target_acceptance`. It is thrown away, and
    the round that counts keeps these step sizes: a chain that adapts while it counts is biased. Any model will do whose
    likelihood has `log_prob`, differentiable in z, and for `simulated` a `sample()`. All in nats per image.
    """

    RATE = 0.05  # of the adaptation, as step *= 1 + rate (acceptance - target) / target

    def __init__(
        self,
        num_chains: int,
        num_temperatures: int,
        num_leapfrog: int,
        step_size: float,
        target_acceptance: float,
        simulated: bool,
    ) -> None:
        self.num_chains, self.num_leapfrog = num_chains, num_leapfrog
        self.step_size, self.target_acceptance = step_size, target_acceptance
        self.simulated = simulated
        self.beta = schedule(num_temperatures)

    def shorter(self) -> "AnnealedImportanceSampling":
        """The same by two temperatures, for a trial."""
        found = copy.copy(self)
        found.beta = schedule(2)
        return found

    def __call__(self, model: LatentVariableModel, x: Tensor, log_weights: Tensor) -> dict[str, Tensor]:
        """Of each image x [B, X]: [B] by name. Its importance weights are not used."""
        draws = _Draws(self.num_chains, x, sum(model.latent_sizes))
        steps = self.tuned(model, x, draws)
        log_w, acceptance = self.forward(model, x, steps, draws)
        found = {"nll_ais": -log_mean_exp(log_w), "ais_acceptance": acceptance}
        if not self.simulated:
            return found
        z = _of_prior(model, draws.simulated())
        x = model.likelihood(z).sample()[0]
        steps = self.tuned(model, x, draws)
        lower, upper = self.bounds(model, x, z, steps, draws)
        return found | {"bdmc_nll_upper": -lower, "bdmc_nll_lower": -upper, "bdmc_gap": upper - lower}

    def bounds(
        self, model: LatentVariableModel, x: Tensor, z: Tensor, steps: Tensor, draws: "_Draws"
    ) -> tuple[Tensor, Tensor]:
        """log (1/S) sum w of forward chains, and -log (1/S) sum 1/w of reverse chains from z, a draw of p(z | x)."""
        lower = log_mean_exp(self.forward(model, x, steps, draws)[0])
        return lower, -log_mean_exp(-self.reverse(model, x, z, steps, draws))

    def tuned(self, model: LatentVariableModel, x: Tensor, draws: "_Draws") -> Tensor:
        """The step sizes of a round of forward chains that adapts them: [T, B]."""
        step, steps = x.new_full((len(x),), self.step_size), []
        z = _of_prior(model, draws.starts())
        for beta in self.beta[1:]:
            steps.append(step)
            z, acceptance = self._transition(model, x, z, float(beta), step, draws)
            step = step * (1 + self.RATE * (acceptance - self.target_acceptance) / self.target_acceptance)
        return torch.stack(steps)

    def forward(
        self, model: LatentVariableModel, x: Tensor, steps: Tensor, draws: "_Draws"
    ) -> tuple[Tensor, Tensor]:
        """log w [S, B], with E w = p(x), and the mean acceptance [B]."""
        z = _of_prior(model, draws.starts())
        log_w, acceptances = x.new_zeros(self.num_chains, len(x)), []
        for low, high, step in zip(self.beta, self.beta[1:], steps, strict=False):
            log_w = log_w + float(high - low) * model.likelihood(z).log_prob(x)
            z, acceptance = self._transition(model, x, z, float(high), step, draws)
            acceptances.append(acceptance)
        return log_w, torch.stack(acceptances).mean(0)

    def reverse(
        self, model: LatentVariableModel, x: Tensor, z: Tensor, steps: Tensor, draws: "_Draws"
    ) -> Tensor:
        """log w [S, B], with E 1/w = 1/p(x), of chains that start at one draw z [1, B, D] of p(z | x)."""
        z = z.expand(self.num_chains, -1, -1)
        log_w = x.new_zeros(self.num_chains, len(x))
        for low, high, step in zip(self.beta.flip(0)[1:], self.beta.flip(0), steps.flip(0), strict=False):
            z, _ = self._transition(model, x, z, float(high), step, draws)
            log_w = log_w + float(high - low) * model.likelihood(z).log_prob(x)
        return log_w

    def _transition(
        self, model: LatentVariableModel, x: Tensor, z: Tensor, beta: float, step: Tensor, draws: "_Draws"
    ) -> tuple[Tensor, Tensor]:
        """An iteration of HMC that leaves p(z) p(x | z)^beta invariant, and the mean acceptance of each image, [B]."""

        def log_density(z: Tensor) -> Tensor:
            return model.prior().log_prob(z) + beta * model.likelihood(z).log_prob(x)

        target = hmc.differentiated(log_density)
        momenta, chances = next(draws)
        state, info = hmc.step(
            hmc.init(z, target), target, step.unsqueeze(-1), self.num_leapfrog, momenta, chances
        )
        return state.position, info.acceptance.mean(0)


def _of_prior(model: LatentVariableModel, noise: Tensor) -> Tensor:
    """z ~ p(z) of noise [S, B, D], which a prior takes as [S B, D]."""
    return model.prior().rsample(noise.flatten(0, 1)).unflatten(0, noise.shape[:2])


class _Draws(Iterator[tuple[Tensor, Tensor]]):
    """Fresh noise for each use of it: for S chains of each image x [B, X] with D latent units."""

    def __init__(self, num_chains: int, x: Tensor, latent: int) -> None:
        self.x, self.shape = x, (num_chains, len(x), latent)
        self.number = 0

    def _next(self, use: int, count: int = 1) -> None:
        samples(self.number, use)
        self.number += count

    def starts(self) -> Tensor:
        """For z ~ p(z): [S, B, D]."""
        self._next(ANNEALED_STARTS, self.shape[0])
        return normal(self.shape, self.x)

    def simulated(self) -> Tensor:
        """For one z ~ p(z) of each image: [1, B, D]. The next draws are for what is simulated from it."""
        self._next(SIMULATED)
        noise = normal((1, *self.shape[1:]), self.x)
        self._next(SIMULATED)
        return noise

    def __next__(self) -> tuple[Tensor, Tensor]:
        """Momenta [S, B, D] and chances [S, B]."""
        first = self.number
        self._next(ANNEALED_MOMENTA, self.shape[0])
        momenta = normal(self.shape, self.x)
        samples(first, ANNEALED_CHANCES)
        return momenta, uniform((*self.shape[:2], 1), self.x)[..., 0]
