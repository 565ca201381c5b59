"""The importance-weighted bound (Burda et al. 2015), its gradient by all samples or by a few of them."""

from torch import Tensor

from evidence.objectives.weighting import Weighted, Weights, importance_weighted


class IWAE(Weighted):
    """L_k = E log (1/k) sum_i w_i (Burda et al. 2015, Eq. 8), a lower bound on log p(x) that rises with k.

    Its gradient is sum_i w~_i grad log w_i with w~ the normalised weights (Eq. 14). Where `num_exact` is 0, one
    sample is drawn by its weight (Section 3).
    """

    def weights(self, log_w: Tensor) -> Weights:
        """w~ for both."""
        normalised = log_w.softmax(0)
        return Weights(normalised, normalised)

    def bounds(self, log_w: Tensor) -> dict[str, Tensor]:
        """L_k."""
        return importance_weighted(log_w)
