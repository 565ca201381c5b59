"""Bounds for groups of samples: MIWAE, PIWAE, CIWAE (Rainforth et al. 2018, https://arxiv.org/abs/1802.04537).

The signal-to-noise ratio of the IWAE's encoder gradient falls with k. These give the encoder a bound of fewer samples,
or a mixture with the ELBO, while an image still costs k samples.
"""

import math
from typing import ClassVar

from torch import Tensor

from evidence.objectives.weighting import Derivative, Weighted, Weights, importance_weighted


class _Grouped(Weighted):
    """`groups` None is the largest divisor of k up to its square root: 8 of 64 samples, as in the paper."""

    def __init__(self, k: int, groups: int | None, num_exact: int | None = None) -> None:
        super().__init__(k, num_exact)
        self.groups = groups or max(m for m in range(1, math.isqrt(k) + 1) if k % m == 0)

    def _mean_bound(self, log_w: Tensor) -> Tensor:
        """The mean over groups of log (groups/k) sum_{i in group} w_i: [k, B] -> [B]."""
        size = self.k // self.groups
        return log_w.unflatten(0, (self.groups, size)).logsumexp(1).mean(0) - math.log(size)

    def _group_weights(self, log_w: Tensor) -> Tensor:
        """Its derivative by the log-weights: w_i / (groups times the sum of its group's weights), [k, B]."""
        return log_w.unflatten(0, (self.groups, -1)).softmax(1).flatten(0, 1) / self.groups


class MIWAE(_Grouped):
    """The mean over M groups of k/M samples of L_{k/M}: between the ELBO (M = k) and L_k (M = 1)."""

    def weights(self, log_w: Tensor) -> Weights:
        """Weights normalised in each group, over M, for both."""
        grouped = self._group_weights(log_w)
        return Weights(grouped, grouped)

    def bounds(self, log_w: Tensor) -> dict[str, Tensor]:
        """The mean of the groups' bounds, and L_k."""
        return {"miwae": self._mean_bound(log_w)} | importance_weighted(log_w)


class PIWAE(_Grouped):
    """The decoder ascends L_k of all samples; the encoder the mean over M groups of L_{k/M}."""

    derivative: ClassVar[Derivative] = "total"

    def weights(self, log_w: Tensor) -> Weights:
        """w~ over all k, and weights normalised in each group, over M."""
        return Weights(log_w.softmax(0), self._group_weights(log_w))

    def bounds(self, log_w: Tensor) -> dict[str, Tensor]:
        """L_k, the decoder's, and the mean of the groups' bounds, the encoder's."""
        return importance_weighted(log_w) | {"miwae": self._mean_bound(log_w)}


class CIWAE(Weighted):
    """beta L_1 + (1 - beta) L_k, with L_1 the ELBO as a mean over the same k samples."""

    def __init__(self, k: int, beta: float, num_exact: int | None = None) -> None:
        super().__init__(k, num_exact)
        self.beta = beta

    def weights(self, log_w: Tensor) -> Weights:
        """beta / k + (1 - beta) w~ for both."""
        mixed = self.beta / self.k + (1 - self.beta) * log_w.softmax(0)
        return Weights(mixed, mixed)

    def bounds(self, log_w: Tensor) -> dict[str, Tensor]:
        """The mixture, and L_k."""
        whole = importance_weighted(log_w)
        return {"ciwae": self.beta * log_w.mean(0) + (1 - self.beta) * whole["iwae"]} | whole
