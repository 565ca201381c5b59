"""Reweighted wake-sleep (Bornschein and Bengio 2015, https://arxiv.org/abs/1406.2751)."""

from typing import ClassVar, Literal

import torch
from torch import Tensor

from evidence.distributions import with_density
from evidence.models import LatentVariableModel
from evidence.objectives.base import Estimate
from evidence.objectives.weighting import Derivative, Weighted, Weights, importance_weighted


class RWS(Weighted):
    """The decoder ascends sum_i w~_i grad log p(x, z_i), in expectation that of L_k. The encoder ascends one of:

      wake   sum_i w~_i grad log q(z_i | x) at fixed z_i: the cross entropy from p(z | x), with a bias of order 1/k
             (at k = 1 its mean is zero);
      sleep  grad log q(z' | x') of one z' ~ p(z), x' ~ p(x | z') for each image of the batch.
    Neither differentiates through z.
    """

    derivative: ClassVar[Derivative] = "score"

    def __init__(self, k: int, encoder: Literal["wake", "sleep"], num_exact: int | None = None) -> None:
        super().__init__(k, num_exact)
        self.encoder = encoder

    def weights(self, log_w: Tensor) -> Weights:
        """w~, and of -grad log q -w~ or 0."""
        normalised = log_w.softmax(0)
        return Weights(normalised, -normalised if self.encoder == "wake" else torch.zeros_like(normalised))

    def bounds(self, log_w: Tensor) -> dict[str, Tensor]:
        """L_k, which the decoder ascends."""
        return importance_weighted(log_w)

    def forward(self, model: LatentVariableModel, x: Tensor) -> Estimate:
        """Surrogate: the weighted log-densities; in the sleep phase with log q of the simulated pairs."""
        estimate = super().forward(model, x)
        if self.encoder == "wake":
            return estimate
        with torch.no_grad():
            prior = model.prior()
            z = prior.rsample(prior.noise(x.shape[0]))
            simulated = model.likelihood(z).sample()
        log_q = with_density(model.posterior(simulated), "log_prob").log_prob(z)
        return Estimate(
            estimate.surrogate + log_q, estimate.metrics | {"sleep/log_posterior": log_q.detach().mean()}
        )
