"""Compares log p(z) with the draws of a prior whose components are normal distributions, drawn at random.

Component c makes z = A_c eps + b_c of noise, so p(z | c) = N(eps; 0, I) / |det A_c| with eps = A_c^-1 (z - b_c). For z
and a component c' that are drawn independently E[p(z | c') / p(z)] = 1, whatever the components. If log p(z) is too
large by a number, the mean is exp(-number).
"""

from typing import Any

import torch
from torch import Tensor

from evidence.distributions import LOG_2PI
from evidence.streams import forked_rng
from evidence.trial.jacobians import jacobian

ROWS = 400  # of noise
MAX_UNITS = 200
SURE = 6.0  # standard errors


def excess_of_mixture(prior: Any, noise: Tensor) -> tuple[float, float] | None:
    """By how much log p(z) is too large, in nats, and to what tolerance, of noise [ROWS, D].

    None where that is not told: where the components drawn for the rows are no maps A eps + b of the noise.
    """
    count, dim = noise.shape

    def drawn(noise: Tensor) -> Tensor:
        with forked_rng(noise.device, 0):  # the same components each time
            z: Tensor = prior.rsample(noise)
            return z

    if dim > MAX_UNITS or not torch.equal(drawn(noise), drawn(noise)):
        return None
    matrix = jacobian(lambda noise: drawn(noise[:, 0]).unsqueeze(1), noise.unsqueeze(1))[:, 0]  # [ROWS, D, D]
    z, step = drawn(noise).double(), torch.randn_like(noise)
    moved = z + (matrix @ step.double().unsqueeze(-1)).squeeze(-1)
    log_det = torch.linalg.slogdet(matrix).logabsdet
    is_affine = torch.allclose(drawn(noise + step).double(), moved, 1e-3, 1e-3)
    if not is_affine or not bool(log_det.isfinite().all()):
        return None
    offset = z - (matrix @ noise.double().unsqueeze(-1)).squeeze(-1)  # b, [ROWS, D]
    points = (z.unsqueeze(0) - offset.unsqueeze(1)).mT  # [components, D, points]
    eps = torch.linalg.solve(matrix, points)
    log_given = -0.5 * (eps.square() + LOG_2PI).sum(1) - log_det.unsqueeze(1)  # [components, points]
    log_ratio = log_given - prior.log_prob(z.to(noise).unsqueeze(1))[:, 0].double()
    largest = log_ratio.max()
    ratio = (log_ratio - largest).exp().fill_diagonal_(0)
    mean = ratio.sum() / (count * (count - 1))
    error = (ratio.mean(0).var() + ratio.mean(1).var()).sqrt() / count**0.5
    if not bool(mean > 2 * SURE * error):
        return None
    return -float(mean.log() + largest), float(SURE * error / mean)
