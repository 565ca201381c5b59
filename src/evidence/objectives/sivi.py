"""Semi-implicit variational inference (Yin and Zhou 2018)."""

import torch
from torch import Tensor

from evidence.distributions import semi_implicit
from evidence.models import LatentVariableModel
from evidence.numerics import log_mean_exp
from evidence.objectives.base import Estimate, Objective


class SIVI(Objective):
    """E[log p(x, z) - log 1/(K+1) sum_{j=0}^K q(z | eps_j, x)], eps_0 the one that made z (Yin and Zhou 2018, Eq. 9).

    A lower bound on the ELBO of a semi-implicit posterior, rising to it with K = num_noises.
    """

    is_compilable = True
    passes_twice = True

    def __init__(self, k: int, num_noises: int) -> None:
        super().__init__()
        self.k, self.num_noises = k, num_noises

    def forward(self, model: LatentVariableModel, x: Tensor) -> Estimate:
        """Surrogate: the bound's estimate, the mean over k samples z."""
        q = semi_implicit(model.posterior(x))
        eps = q.noise(self.k)
        z = q.rsample(eps)
        generating = q.conditional(eps).log_prob(z).unsqueeze(0)  # [1, k, B]
        fresh = q.conditional(q.noise(self.num_noises).unsqueeze(1)).log_prob(z)  # [K, k, B]
        log_q = log_mean_exp(torch.cat([generating, fresh]))
        bound = (model.log_joint(x, z) - log_q).mean(0)
        metrics = {"sivi_bound": bound.detach().mean(), "scale": q.scale.detach().mean()}
        return Estimate(bound, metrics)
