"""The thermodynamic variational objective (Masrani et al. 2019, https://arxiv.org/abs/1907.00031)."""

from typing import ClassVar

import torch
from torch import Tensor

from evidence.objectives.weighting import Derivative, Weighted, Weights, importance_weighted


class TVO(Weighted):
    """sum_j (beta_{j+1} - beta_j) E_{pi_j} log w, a left Riemann sum of log p(x) = int_0^1 E_{pi_beta} log w dbeta.

    pi_beta is proportional to q(z | x)^(1 - beta) p(x, z)^beta. Its expectations take k samples of q with weights u
    proportional to w^beta. `points` are the beta_j from 0 below 1: equally spaced for first=null, else 0 and then
    logarithmically spaced from `first`. One point is the ELBO. With k samples the sum of equally
    spaced points tends to L_k, not to log p(x), and is never above it. Twice as many points never lower it.

    The gradient of E_pi f, f = log w, is E_pi grad f + Cov_pi(f, grad log pi~), pi~ the unnormalised density, at fixed
    z: the derivative through normalised weights is another. k / (k - 1) makes the covariance unbiased at
    beta = 0.
    """

    derivative: ClassVar[Derivative] = "score"
    beta: Tensor

    def __init__(self, k: int, points: int, first: float | None, num_exact: int | None = None) -> None:
        super().__init__(k, num_exact)
        inner = torch.linspace(0, 1, points + 1)[:-1]
        if first is not None and points > 1:
            powers = torch.linspace(1, 0, points)[:-1]
            inner = torch.cat([torch.zeros(1), torch.as_tensor(first) ** powers])
        self.register_buffer("beta", inner, persistent=False)

    def weights(self, log_w: Tensor) -> Weights:
        """Of grad log p: sum_j d_j u (1 + beta_j c), and of -grad log q: sum_j d_j u (1 - (1 - beta_j) c).

        d_j are the steps of beta, and c = k / (k - 1) (f - E_pi f).
        """
        beta, step, u, mean = self._points(log_w)
        centred = self.k / (self.k - 1) * (log_w - mean)
        decoder = (step * u * (1 + beta * centred)).sum(0)
        return Weights(decoder, (step * u * (1 - (1 - beta) * centred)).sum(0))

    def bounds(self, log_w: Tensor) -> dict[str, Tensor]:
        """The sum, between the ELBO's and L_k's estimates for every draw, and L_k."""
        _, step, _, mean = self._points(log_w)
        return {"tvo": (step * mean).sum(0).squeeze(0)} | importance_weighted(log_w)

    def _points(self, log_w: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """beta [J, 1, 1], its steps [J, 1, 1], u [J, k, B] and E_pi log w [J, 1, B]."""
        beta = self.beta.to(log_w.dtype)
        step = torch.diff(beta, append=beta.new_ones(1))
        beta, step = beta[:, None, None], step[:, None, None]
        u = (beta * log_w).softmax(1)
        return beta, step, u, (u * log_w).sum(1, keepdim=True)
