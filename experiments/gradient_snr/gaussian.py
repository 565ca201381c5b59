"""A linear-Gaussian model whose gradients are drawn many at a time (Rainforth et al. 2018, Section 5).

z ~ N(mu, I) with D = 20, x | z ~ N(z, I), and q(z | x) = N(x / 2 + b, 2/3 I). The posterior is N((x + mu) / 2, I / 2).
Row r of a batch has parameters b_r and mu_r of its own, of equal value, so that the gradient of a sum over the batch
has an independent draw in each row. With delta = (x + mu) / 2 - E_q z and a standard normal u, at k = 1

  ELBO        grad_b = 2 delta - 2 sqrt(2/3) u          SNR |delta| sqrt(3/2) for each dimension
  its path    grad_b = 2 delta - sqrt(1/6) u            SNR 2 |delta| sqrt(6)
"""

import torch
from torch import Tensor, nn

from evidence.distributions import DiagonalNormal
from evidence.models import LatentVariableModel

DIM = 20
SCALE = (2 / 3) ** 0.5  # of q
OFFSET = 0.1  # delta, in each dimension
PIXEL = 0.4  # x in each dimension, where d log p(x) / d mu = (x - mu) / 2


class Normal(nn.Module):
    """N(ratio x + offset_r, scale^2 I) with an offset of its own for each row."""

    def __init__(self, ratio: float, offset: float, scale: float, rows: int) -> None:
        super().__init__()
        self.ratio, self.scale = ratio, scale
        self.offset = nn.Parameter(torch.full((rows, DIM), offset))

    def forward(self, y: Tensor | None = None) -> DiagonalNormal:
        """The distribution given y [..., rows, D], or for none that of a prior."""
        mean = self.offset if y is None else self.ratio * y + self.offset
        return DiagonalNormal(mean, mean.new_tensor(self.scale).expand(DIM))


class Fixed(nn.Module):
    """N(z, I)."""

    def forward(self, z: Tensor) -> DiagonalNormal:
        """The distribution of x given z [..., D]."""
        return DiagonalNormal(z, z.new_ones(DIM))


def model(rows: int) -> LatentVariableModel:
    """mu = 0, and b = -delta: `rows` copies of one problem."""
    return LatentVariableModel(Normal(0.0, 0.0, 1.0, rows), Fixed(), Normal(0.5, -OFFSET, SCALE, rows), [DIM])
