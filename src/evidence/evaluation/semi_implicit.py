"""The log evidence of images under a semi-implicit posterior, whose log q(z | x) is itself an average over noises."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from evidence.distributions import LOG_2PI, semi_implicit
from evidence.errors import UserError
from evidence.evaluation.scoring import CONDITIONAL, GAUSSIAN, GENERATING, MIXTURE, Keep, blocks, in_eval
from evidence.models import LatentVariableModel
from evidence.numerics import log_mean_exp
from evidence.streams import normal, samples

GAUSSIAN_WIDENING = 1.3  # of the covariance, so that the proposal's tails cover q(z | x)
MIXTURE_BLOCK = 2**20  # exponents at a time: what stays in a processor's cache


class SemiImplicitScores(NamedTuple):
    """Log evidence of each image under three treatments of log q(z | x), [B], in nats.

    mixture: log-mean-exp over T fresh noises and the generating one: a lower bound on log p(x) in expectation.
    fresh: without the generating one, the UIVI paper's protocol: biased up, by nats where T is small.
    gaussian: samples from a Gaussian fitted to q(z | x), whose density is exact: a lower bound, and independent.
    """

    mixture: Tensor
    fresh: Tensor
    gaussian: Tensor


class SemiImplicitSampling(NamedTuple):
    """Scores by the three estimates of SemiImplicitScores, with S = num_samples and T = num_noises.

    Networks see at most `rows` (image, sample) pairs at a time.
    """

    num_samples: int
    num_noises: int
    rows: int

    def fewer(self, num_samples: int) -> "SemiImplicitSampling":
        """The same with so few samples, and no more noises."""
        return self._replace(num_samples=num_samples, num_noises=min(self.num_noises, num_samples))

    def scores(self, model: LatentVariableModel, x: Tensor, keep: Keep | None = None) -> dict[str, Tensor]:
        """nll_mixture, nll_fresh, nll_gaussian and nll, which is the first, of each image x [B, X]: [B] each."""
        log_p = score_semi_implicit(model, x, self.num_samples, self.num_noises, self.rows, keep)
        return {"nll": -log_p.mixture} | {f"nll_{name}": -value for name, value in log_p._asdict().items()}


@in_eval
def score_semi_implicit(
    model: LatentVariableModel,
    x: Tensor,
    num_samples: int,
    num_noises: int,
    rows: int,
    keep: Keep | None = None,
) -> SemiImplicitScores:
    """The three estimates with S samples z and T noises; the T noises are shared by the S samples of an image.

    Sharing keeps the mixture's estimate of p(x) unbiased: given all T + 1 noises the generating one is any of them
    with equal probability, so w averages to p(x). Networks see at most `rows` (image, sample) pairs at a time. `keep`
    is called with mixture, fresh and gaussian: log-weights, whose log-mean-exp over the samples is the estimate of that
    name.
    """
    q = semi_implicit(model.posterior(x))
    size = max(1, rows // x.shape[0])

    def noise(first: int, count: int, use: int) -> Tensor:
        samples(first, use)
        return q.noise(count)

    def draw(first: int, count: int) -> tuple[Tensor, Tensor]:
        conditional = q.conditional(noise(first, count, GENERATING))
        samples(first, CONDITIONAL)
        return conditional.rsample_and_log_prob(normal(conditional.mean.shape, conditional.mean))

    def log_joint(z: Tensor) -> Tensor:
        return torch.cat([model.log_joint(x, part) for part in z.split(size)])

    # Laid out image by image, as log_mixture reads them: ten million numbers are turned round while in cache.
    parts = [
        q.mean(noise(first, count, MIXTURE)).transpose(0, 1) for first, count in blocks(num_noises, size)
    ]
    means = torch.cat(parts, 1).transpose(0, 1)  # [T, B, D]
    draws = [draw(first, count) for first, count in blocks(num_samples, size)]
    z, generating = (torch.cat(found) for found in zip(*draws, strict=True))  # [S, B, D], [S, B]
    fresh = log_mixture(z, means, q.scale, MIXTURE_BLOCK)  # log sum over T
    mixture = torch.logaddexp(fresh, generating) - math.log(num_noises + 1)
    gaussian = widened_gaussian(means, q.scale)
    samples(0, GAUSSIAN)
    wide = normal((num_samples, *gaussian.mean.shape), gaussian.mean)
    wide = gaussian.mean + (gaussian.scale_tril @ wide.unsqueeze(-1)).squeeze(-1)
    log_p, log_w = log_joint(z), log_joint(wide) - gaussian.log_prob(wide)
    if keep is not None:
        keep({"mixture": log_p - mixture, "fresh": log_p - fresh + math.log(num_noises), "gaussian": log_w})
    return SemiImplicitScores(
        mixture=log_mean_exp((log_p - mixture).double()),
        fresh=log_mean_exp((log_p - fresh).double()) + math.log(num_noises),
        gaussian=log_mean_exp(log_w.double()),
    )


def log_mixture(z: Tensor, means: Tensor, scale: Tensor, max_elements: int) -> Tensor:
    """log sum_t N(z; means_t, diag(scale^2)): z [S, B, D], means [T, B, D], scale [D] or [B, D] -> [S, B].

    -|z - m|^2 / 2 = z.m - |z|^2 / 2 - |m|^2 / 2 in units of scale makes it a matrix product per image; both are first
    centred on the image's mean of m, without which the squares would cancel badly. At most `max_elements` at a time.
    """
    centre = means.mean(0)
    z = ((z - centre) / scale).transpose(0, 1)  # [B, S, D]
    means = ((means - centre) / scale).transpose(0, 1)  # [B, T, D]
    offsets = -0.5 * means.square().sum(2)
    totals = torch.full(z.shape[:2], -math.inf, dtype=z.dtype, device=z.device)
    size = max(1, max_elements // z.shape[1])
    for points, centres, offset, total in zip(z, means, offsets, totals, strict=True):
        for part, term in zip(centres.split(size), offset.split(size), strict=True):
            exponent = torch.addmm(term, points, part.T)  # [S, T']
            total.copy_(torch.logaddexp(total, torch.logsumexp(exponent, 1)))
    totals -= 0.5 * z.square().sum(2)
    return totals.T - scale.log().expand(centre.shape).sum(-1) - 0.5 * centre.shape[-1] * LOG_2PI


def widened_gaussian(means: Tensor, scale: Tensor) -> torch.distributions.MultivariateNormal:
    """The Gaussian with q(z | x)'s mean and 1.3 times its full covariance: means [T, B, D], scale [D] or [B, D]."""
    if len(means) < 2:
        raise UserError("eval.semi_implicit.noises=1: a Gaussian is fitted to them, which needs at least 2")
    centred = means - means.mean(0)
    covariance = torch.einsum("tbd,tbe->bde", centred, centred) / (means.shape[0] - 1)
    covariance = GAUSSIAN_WIDENING * (covariance + torch.diag_embed(scale.square().expand(means.shape[1:])))
    return torch.distributions.MultivariateNormal(means.mean(0), covariance, validate_args=False)
