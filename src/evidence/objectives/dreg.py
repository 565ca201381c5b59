"""Encoder gradients without the score: DReG, STL and RWS-DReG (Tucker et al. 2018, https://arxiv.org/abs/1810.04152).

The encoder ascends sum_i (c w~_i + (1 - 2c) w~_i^2) d log w_i / dz_i dz_i / d encoder, w~ the normalised weights:
c = 0 for DReG, c = 1 for RWS-DReG; STL is twice c = 1/2. The decoder ascends L_k, as the IWAE's.
"""

from typing import ClassVar

from torch import Tensor

from evidence.objectives.weighting import Derivative, Weighted, Weights, importance_weighted


class _Path(Weighted):
    derivative: ClassVar[Derivative] = "path"

    def bounds(self, log_w: Tensor) -> dict[str, Tensor]:
        """L_k, which the decoder ascends."""
        return importance_weighted(log_w)


class DReG(_Path):
    """The doubly reparameterised gradient: that of L_k in expectation, with less variance near the posterior.

    Encoder: sum_i w~_i^2 d log w_i / dz_i dz_i / d encoder.
    """

    def weights(self, log_w: Tensor) -> Weights:
        """w~, and w~^2."""
        normalised = log_w.softmax(0)
        return Weights(normalised, normalised.square())


class STL(_Path):
    """Sticking the landing (Roeder et al. 2017, https://arxiv.org/abs/1703.09194): the score is left out.

    Encoder: sum_i w~_i d log w_i / dz_i dz_i / d encoder. For k = 1 it is the ELBO's gradient in expectation; for
    larger k it is biased (Tucker et al. 2018).
    """

    def weights(self, log_w: Tensor) -> Weights:
        """w~ for both."""
        normalised = log_w.softmax(0)
        return Weights(normalised, normalised)


class RWSDReG(_Path):
    """The wake-phase gradient of reweighted wake-sleep, doubly reparameterised. At k = 1 it is zero.

    Encoder: sum_i (w~_i - w~_i^2) d log w_i / dz_i dz_i / d encoder, in expectation that of sum_i w~_i log q(z_i | x).
    """

    def weights(self, log_w: Tensor) -> Weights:
        """w~, and w~ (1 - w~)."""
        normalised = log_w.softmax(0)
        return Weights(normalised, normalised * (1 - normalised))
