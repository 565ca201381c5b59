"""A model whose log p(x) is known: z ~ N(0, I), x | z ~ N(W z + b, s^2 I), and a q(z | x) that is not its posterior.

The posterior is N(m, C) with C = (I + W'W / s^2)^-1 and m = C W'(x - b) / s^2. q is Gaussian with mean SHRINKAGE m, so
that x far from b have larger gaps, and covariance WIDENING^2 diag C. w / p(x) = p(z | x) / q(z | x).
"""

import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from evidence.distributions import DiagonalNormal
from evidence.models import LatentVariableModel
from evidence.networks import StandardNormalPrior

X_DIM, Z_DIM = 10, 5
NOISE_SCALE = 0.6  # s
# So wide that w has a fourth moment, and an estimated variance a standard error.
SHRINKAGE, WIDENING = 0.8, 1.6
SEED = 1


class LinearLikelihood(nn.Module):
    """p(x | z) = N(W z + b, s^2 I)."""

    weight: Tensor
    bias: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", 0.5 * torch.randn(X_DIM, Z_DIM, dtype=torch.float64))
        self.register_buffer("bias", torch.randn(X_DIM, dtype=torch.float64))
        self.register_buffer("scale", torch.full((X_DIM,), NOISE_SCALE, dtype=torch.float64))

    def forward(self, z: Tensor) -> DiagonalNormal:
        """The distribution of x given z [..., Z_DIM]."""
        return DiagonalNormal(z @ self.weight.T + self.bias, self.scale)

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean [B, Z_DIM] and covariance [Z_DIM, Z_DIM] of p(z | x)."""
        precision = torch.eye(Z_DIM, dtype=x.dtype) + self.weight.T @ self.weight / NOISE_SCALE**2
        covariance = torch.linalg.inv(precision)
        return (x - self.bias) @ self.weight / NOISE_SCALE**2 @ covariance, covariance

    def evidence(self) -> MultivariateNormal:
        """p(x) = N(b, W W' + s^2 I)."""
        return MultivariateNormal(self.bias, self.weight @ self.weight.T + torch.diag(self.scale.square()))


class MismatchedPosterior(nn.Module):
    """q(z | x) = N(SHRINKAGE m, WIDENING^2 diag C)."""

    def __init__(self, likelihood: LinearLikelihood) -> None:
        super().__init__()
        self.likelihood = likelihood

    def forward(self, x: Tensor) -> DiagonalNormal:
        """The distribution given x [B, X_DIM]."""
        mean, covariance = self.likelihood.posterior(x)
        scale = WIDENING * covariance.diagonal().sqrt()
        return DiagonalNormal(SHRINKAGE * mean, scale.expand_as(mean))


class LinearGaussian(LatentVariableModel):
    """The model; its likelihood knows the exact answers."""

    likelihood: LinearLikelihood


def linear_gaussian() -> LinearGaussian:
    """The model, in float64."""
    with torch.random.fork_rng([]):
        torch.manual_seed(SEED)
        likelihood = LinearLikelihood()
    prior = StandardNormalPrior(Z_DIM).double()
    return LinearGaussian(prior, likelihood, MismatchedPosterior(likelihood), [Z_DIM])


def weight_variance(model: LinearGaussian, x: Tensor) -> Tensor:
    """Var_q[w / p(x)] = int p(z | x)^2 / q(z | x) dz - 1, [B]; infinite where q is too narrow for it.

    With precisions L of the posterior and G of q, P = 2L - G and d = mean of q - m:
    1 + Var = |L| |G|^-1/2 |P|^-1/2 exp(1/2 d'G P^-1 G d + 1/2 d'G d), finite where P is positive definite.
    """
    mean, covariance = model.likelihood.posterior(x)
    q = model.posterior(x)
    precision = torch.linalg.inv(covariance)
    own = torch.diag_embed(q.scale.square().reciprocal())  # [B, D, D]
    excess = 2 * precision - own
    offset = (q.mean - mean).unsqueeze(-1)
    pulled = own @ offset
    exponent = 0.5 * (pulled.mT @ torch.linalg.solve(excess, pulled) + offset.mT @ pulled)[..., 0, 0]
    log_second_moment = exponent + precision.logdet() - 0.5 * own.logdet() - 0.5 * excess.logdet()
    is_finite = (torch.linalg.eigvalsh(excess) > 0).all(-1)
    return torch.where(is_finite, log_second_moment.expm1(), torch.inf)
