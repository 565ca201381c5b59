"""The best single Gaussian under KL(q || p), the explicit posterior that a semi-implicit one must beat.

In two dimensions KL(N(m, L L') || p) = -1 - log 2 pi - log det L - E_u log p(m + L u) with u ~ N(0, I). The
expectation is taken by the trapezoid rule, which is exact to rounding for so smooth an integrand (Gauss-Hermite's is
not between two modes), and the KL minimised over m and L from several starts, for it has local minima.
"""

from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from evidence.distributions import LOG_2PI
from experiments.uivi_toys.targets import Density

NODES, EDGE = 201, 8.5  # of each dimension of u
STARTS = [[0.0, 0.0], [2.0, 0.0], [0.0, -2.0], [1.0, 1.0]]  # of the mean


class GaussianFit(NamedTuple):
    """KL(q || p) in nats, mean [2], and factor [2, 2], the Cholesky factor of the covariance."""

    kl: float
    mean: Tensor
    factor: Tensor


def gaussian_kl(density: Density, mean: Tensor, factor: Tensor) -> Tensor:
    """KL(N(mean, factor factor') || p), a scalar; `factor` lower triangular."""
    nodes = torch.linspace(-EDGE, EDGE, NODES, dtype=mean.dtype)
    standard = torch.cartesian_prod(nodes, nodes)  # [NODES^2, 2]
    weight = (-0.5 * standard.square().sum(1)).softmax(0)
    expected_log_p = weight @ density.log_prob(mean + standard @ factor.T)
    return -1 - LOG_2PI - factor.diagonal().log().sum() - expected_log_p


def fit_gaussian(density: Density) -> GaussianFit:
    """The least KL of all starts; the density must be in float64."""

    def parts(free: Tensor) -> tuple[Tensor, Tensor]:
        factor = torch.stack(
            [torch.stack([free[2].exp(), free[0] * 0]), torch.stack([free[4], free[3].exp()])]
        )
        return free[:2], factor

    def value_and_gradient(free: np.ndarray) -> tuple[float, np.ndarray]:
        leaf = torch.from_numpy(free).requires_grad_()
        kl = gaussian_kl(density, *parts(leaf))
        (gradient,) = torch.autograd.grad(kl, leaf)
        return kl.item(), gradient.numpy()

    found = [minimize(value_and_gradient, [*start, 0.0, 0.0, 0.0], jac=True) for start in STARTS]
    best = min(found, key=lambda result: result.fun)
    return GaussianFit(float(best.fun), *parts(torch.from_numpy(best.x)))
