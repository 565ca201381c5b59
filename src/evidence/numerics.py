"""Arithmetic of log-weights: sums of exp(log w) over samples that would overflow if they were formed directly.

Log-weights log w = log p(x, z) - log q(z | x) have shape [K, B], samples first and batch second, everywhere.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


def log_mean_exp(values: Tensor, dim: int = 0) -> Tensor:
    """log (1/K) sum_k exp(values_k) over `dim`, of length K."""
    return torch.logsumexp(values, dim) - math.log(values.shape[dim])


def effective_sample_size(log_w: Tensor) -> Tensor:
    """(sum_k w_k)^2 / sum_k w_k^2, between 1 and K: log_w [K, B] -> [B] (Kong 1992)."""
    return 1 / log_w.softmax(0).square().sum(0)


def sum_softplus(x: Tensor) -> Tensor:
    """sum_i log(1 + exp x_i) over the last dimension, finite for any finite x.

    Compiled for a CPU, it is sum_i max(x_i, 0) + log prod_i (1 + exp -|x_i|), one logarithm for every fourteen factors,
    each between 1 and 2: half the time, and the same to rounding. As single operations it would be slower.
    """
    if torch.compiler.is_compiling() and x.device.type == "cpu":
        return _SumSoftplus.apply(x)
    return F.softplus(x).sum(-1)


class _SumSoftplus(torch.autograd.Function):
    """Its gradient is the logistic function; differentiating the product would need its factors."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        factors = 1 + F.pad(x.abs().neg().exp(), (0, -x.shape[-1] % 14), value=0.0)
        return x.clamp(min=0).sum(-1) + factors.unflatten(-1, (14, -1)).prod(-2).log().sum(-1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad.unsqueeze(-1) * torch.sigmoid(x)


# tanh x = x P(x^2) / Q(x^2) to 4e-7 of its value, for |x| up to where its float32 is 1 (Eigen, MathFunctionsImpl.h).
TANH_END = 7.90531110763549805
TANH_P = (
    4.89352455891786e-03,
    6.37261928875436e-04,
    1.48572235717979e-05,
    5.12229709037114e-08,
    -8.60467152213735e-11,
    2.00018790482477e-13,
    -2.76076847742355e-16,
)
TANH_Q = (4.89352518554385e-03, 2.26843463243900e-03, 1.18534705686654e-04, 1.19825839466702e-06)


def tanh(x: Tensor) -> Tensor:
    """tanh x. Compiled for a CPU, float32 numbers take a rational function, in a third of the time."""
    if torch.compiler.is_compiling() and x.dtype == torch.float32 and x.device.type == "cpu":
        return _RationalTanh.apply(x)
    return x.tanh()


class _RationalTanh(torch.autograd.Function):
    """Its gradient is 1 - tanh^2."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        x = x.clamp(-TANH_END, TANH_END)
        return x * _polynomial(TANH_P, x * x) / _polynomial(TANH_Q, x * x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (value,) = ctx.saved_tensors
        return grad * (1 - value * value)


def _polynomial(coefficients: Sequence[float], x: Tensor) -> Tensor:
    """c_0 + c_1 x + c_2 x^2 + ..., by Horner's rule."""
    value = torch.full_like(x, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        value = value * x + coefficient
    return value


class WeightSums(NamedTuple):
    """What K log-weights per image leave behind, in memory that does not depend on K. Tensors are [B], in nats."""

    num_samples: int
    total: Tensor  # sum_k log w_k
    log_sum: Tensor  # log sum_k w_k
    log_sum_of_squares: Tensor  # log sum_k w_k^2

    @property
    def elbo(self) -> Tensor:
        """(1/K) sum_k log w_k."""
        return self.total / self.num_samples

    @property
    def log_evidence(self) -> Tensor:
        """L_K = log (1/K) sum_k w_k, in expectation a lower bound on log p(x) (Burda et al. 2015, Eq. 8)."""
        return self.log_sum - math.log(self.num_samples)

    @property
    def effective_sample_size(self) -> Tensor:
        """(sum_k w_k)^2 / sum_k w_k^2."""
        return torch.exp(2 * self.log_sum - self.log_sum_of_squares)

    def merge(self, other: "WeightSums") -> "WeightSums":
        """The sums over both sets of samples: chunks merged in any order give the sums over all."""
        return WeightSums(
            self.num_samples + other.num_samples,
            self.total + other.total,
            torch.logaddexp(self.log_sum, other.log_sum),
            torch.logaddexp(self.log_sum_of_squares, other.log_sum_of_squares),
        )


def summarize(log_w: Tensor) -> WeightSums:
    """The sums over one chunk of log-weights [K, B]."""
    return WeightSums(log_w.shape[0], log_w.sum(0), torch.logsumexp(log_w, 0), torch.logsumexp(2 * log_w, 0))
