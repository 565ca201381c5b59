"""log w with latent units removed: their q(z_u | x) becomes the prior, and the decoder sees the prior's mean instead.

With q(z_u | x) = p(z_u) a removed unit's log p(z_u) - log q(z_u | x) is zero, and only the kept ones' remain. For one
stochastic layer: in a deeper model p(h_1 | h_2) gives a unit of h_1 no prior of its own.
"""

from typing import NamedTuple

from torch import Tensor

from evidence.distributions import DiagonalNormal
from evidence.models import LatentVariableModel
from evidence.numerics import log_mean_exp


class Bounds(NamedTuple):
    """L_S of each image, [B], by the whole model and without the removed units, on the same noise."""

    whole: Tensor
    removed: Tensor


def bounds(model: LatentVariableModel, x: Tensor, is_kept: Tensor, num_samples: int) -> Bounds:
    """Both from one draw of noise, so that their difference has none but what the removed units make."""
    q = model.posterior(x)
    noise = q.noise(num_samples)
    whole = model.log_weights_at(noise, q, x)
    removed = log_weights_without(model, q, x, noise, is_kept)
    return Bounds(log_mean_exp(whole.double()), log_mean_exp(removed.double()))


def log_weights_without(
    model: LatentVariableModel, q: DiagonalNormal, x: Tensor, noise: Tensor, is_kept: Tensor
) -> Tensor:
    """log w of the kept units [D] at their noise: x [B, X], noise [K, B, D] -> [K, B]."""
    prior = model.prior()
    kept, log_q = _of(q, is_kept).rsample_and_log_prob(noise[..., is_kept])
    z = prior.mean.expand_as(noise).clone()
    z[..., is_kept] = kept
    return _of(prior, is_kept).log_prob(kept) + model.likelihood(z).log_prob(x) - log_q


def _of(normal: DiagonalNormal, is_kept: Tensor) -> DiagonalNormal:
    return DiagonalNormal(normal.mean[..., is_kept], normal.scale[..., is_kept])
