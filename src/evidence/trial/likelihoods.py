"""Checks that a likelihood is a probability of images of 0 and 1, and that its mean is that of a one."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from evidence.errors import UserError
from evidence.models import LatentVariableModel
from evidence.trial.interfaces import named

OTHERS = 64  # images to compare with
TOLERANCE = 0.2  # nats of the whole image
OF_MEAN = 0.01
SEEN = 7.0  # nats; one component of a mixture, of a weight of 1/1000, may be all that is seen


def check_likelihood(model: LatentVariableModel, x: Tensor) -> list[str]:
    """Raise UserError where p(x | z) sums to more than 1, for a z of the prior; x [B, X]. Return notes.

    Where log p(x | z) is a sum over pixels, sum_x p(x | z) is the product of the sums over each pixel. X + 1 images
    tell these: a black one, and those with one white pixel. Else sum_x p(x | z) = E p(x | z) / r(x), r independent
    pixels of the likelihood's own mean. By Markov's inequality a ratio above 4 has a probability of at most 1/4.
    """
    name = named(model.likelihood)
    z = model.prior().rsample(model.prior().noise(1))  # [1, D]
    black_image, one_white = torch.zeros_like(x[:1]), torch.eye(x.shape[1]).to(x)
    turned = torch.cat([black_image, one_white])
    mean = _likelihood(model, z, x[:1]).mean[0, 0].double()
    others = torch.bernoulli(mean.nan_to_num(0.5).clamp(0.01, 0.99).expand(OTHERS, -1)).to(x)
    far = torch.cat([torch.bernoulli(torch.full_like(others, 0.5)), 1 - others])  # from what is likely
    images = torch.cat([turned, others, far])
    log_p = _likelihood(model, z, images).log_prob(images)[0].double()
    if not bool(log_p.isfinite().all()):
        return []
    black, gains = log_p[0], log_p[1 : len(turned)] - log_p[0]  # of log p where a pixel is white
    beside = images[len(turned) :].double()
    if torch.allclose(log_p[len(turned) :], black + beside @ gains, 2e-5, TOLERANCE / 4):
        return _of_pixels(name, float(black + softplus(gains).sum()), gains.sigmoid(), mean)
    if not bool(((mean > -OF_MEAN) & (mean < 1 + OF_MEAN)).all()):
        raise UserError(f"{name}: mean is from {mean.min():.3g} to {mean.max():.3g}; it must be of 0 and 1")
    safe = mean.clamp(0.01, 0.99)
    log_r = beside @ safe.log() + (1 - beside) @ (1 - safe).log()
    share = float((log_p[len(turned) :] - log_r > math.log(4)).double()[:OTHERS].mean())
    if share > 0.6 or float(log_p.max()) > 1e-3:
        raise UserError(
            f"{name}: p(x | z) sums to more than 1 over images x of 0 and 1; it must be a probability"
        )
    return []


def _of_pixels(name: str, log_total: float, ones: Tensor, mean: Tensor) -> list[str]:
    """Of log sum_x p(x | z), and of each pixel's probability of a one [X] beside the mean."""
    if log_total > TOLERANCE:
        raise UserError(
            f"{name}: log p(x | z) is {log_total:.4g} nats too large: p(x | z) sums to more than 1 over images x of 0"
            " and 1; it must be the log of a probability, summed over the pixels"
        )
    if log_total < -TOLERANCE:
        if log_total > -SEEN:
            return []
        return [
            f"{name}: p(x | z) sums to exp({log_total:.4g}) over images x of 0 and 1, and not to 1, so that its NLL is"
            " too large"
        ]
    worst = (ones - mean).abs().argmax()
    if float((ones - mean).abs()[worst]) > OF_MEAN:
        raise UserError(
            f"{name}: mean is {mean[worst]:.3g} at a pixel that is 1 with probability {ones[worst]:.3g} by log_prob;"
            " they must be equal"
        )
    return []


def _likelihood(model: LatentVariableModel, z: Tensor, images: Tensor) -> Any:
    """p(x | z) for one z [1, D] and as many images as there are."""
    return model.likelihood(z.unsqueeze(1).repeat(1, len(images), 1))
