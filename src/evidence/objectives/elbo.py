"""The evidence lower bound (Kingma and Welling 2014)."""

from typing import Literal

from torch import Tensor

from evidence.distributions import kl_divergence
from evidence.models import LatentVariableModel
from evidence.objectives.base import Estimate, Objective


class ELBO(Objective):
    """E_q[log w], the mean of log w over k samples (Kingma and Welling 2014, Eq. 3; k samples: Burda et al., Eq. 7).

    kl="sampled" takes log q(z | x) - log p(z) at the samples, as the IWAE paper does; kl="analytic" is exact, and
    raises UserError where posterior and prior are not two DiagonalNormal.
    """

    is_compilable = True

    def __init__(self, k: int, kl: Literal["sampled", "analytic"] = "sampled") -> None:
        super().__init__()
        self.k, self.kl = k, kl

    def forward(self, model: LatentVariableModel, x: Tensor) -> Estimate:
        """Surrogate: the ELBO's estimate itself."""
        if self.kl == "sampled":
            elbo = model.log_weights(x, self.k).mean(0)
        else:
            q = model.posterior(x)
            kl = kl_divergence(q, model.prior())
            elbo = model.log_likelihood_at(q.noise(self.k), q, x).mean(0) - kl
        return Estimate(elbo, {"elbo": elbo.detach().mean()})
