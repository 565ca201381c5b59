"""The variational Renyi-importance-weighted bound (Daudel et al. 2022, https://arxiv.org/abs/2210.06226)."""

from torch import Tensor

from evidence.numerics import log_mean_exp
from evidence.objectives.weighting import Derivative, Weighted, Weights, importance_weighted


class VRIWAE(Weighted):
    """1/(1 - alpha) E log (1/k) sum_i w_i^(1 - alpha): L_k at alpha = 0, and the ELBO as alpha rises to 1.

    v_i is proportional to w_i^(1 - alpha), and sums to one. The decoder ascends sum_i v_i grad log w_i. So does the
    encoder, or, where `doubly_reparameterized`, sum_i (alpha v_i + (1 - alpha) v_i^2) d log w_i / dz_i dz_i / d
    encoder. Both have the same expectation; the second is DReG at alpha = 0.
    """

    def __init__(
        self, k: int, alpha: float, doubly_reparameterized: bool, num_exact: int | None = None
    ) -> None:
        super().__init__(k, num_exact)
        self.alpha = alpha
        self.doubly_reparameterized = doubly_reparameterized

    @property
    def derivative(self) -> Derivative:  # type: ignore[override]
        """Of the path alone, or of the bound."""
        return "path" if self.doubly_reparameterized else "bound"

    def weights(self, log_w: Tensor) -> Weights:
        """v, and v or alpha v + (1 - alpha) v^2."""
        v = ((1 - self.alpha) * log_w).softmax(0)
        return Weights(
            v, self.alpha * v + (1 - self.alpha) * v.square() if self.doubly_reparameterized else v
        )

    def bounds(self, log_w: Tensor) -> dict[str, Tensor]:
        """The bound, and L_k."""
        power = 1 - self.alpha
        near = (log_mean_exp(power * log_w) / power).detach()
        # As alpha rises to 1 the quotient loses digits. They are in what is left of the mean of w^power over e^near.
        bound = near + (power * (log_w - near)).expm1().mean(0).log1p() / power
        return {"vr_iwae": bound} | importance_weighted(log_w)
