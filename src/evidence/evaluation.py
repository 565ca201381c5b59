"""What a trained model is worth: the log evidence of held-out images, and how many latent units it uses.

For a posterior with a density, log p(x) >= E L_S with L_S = log (1/S) sum_s w_s. For a semi-implicit one log q(z | x)
is itself an average, and three estimates stand beside each other (`SemiImplicitScores`).
"""

import math
from collections.abc import Callable, Iterator
from functools import cache, wraps
from typing import Concatenate, NamedTuple, ParamSpec, TypeVar

import torch
from torch import Tensor

from evidence.distributions import (
    LOG_2PI,
    Chain,
    DiagonalNormal,
    SemiImplicit,
    semi_implicit,
    with_density,
)
from evidence.errors import UserError
from evidence.models import LatentVariableModel
from evidence.numerics import WeightSums, fused, log_mean_exp, scoring, summarize

Given = ParamSpec("Given")
Found = TypeVar("Found")
ACTIVE_THRESHOLD = 1e-2  # Burda et al. 2015, Section 5.1
GAUSSIAN_WIDENING = 1.3  # of the covariance, so that the proposal's tails cover q(z | x)
IMAGES_PER_BATCH = 100
MIXTURE_BLOCK = 2**20  # exponents at a time: what stays in a processor's cache
MEAN_SAMPLES = 100  # for each estimate of E_q[z | x] where the mean is not exact

Keep = Callable[[dict[str, Tensor]], object]  # hears a batch's log-weights by name, [S, B], samples first


def _in_eval(
    function: Callable[Concatenate[LatentVariableModel, Given], Found],
) -> Callable[Concatenate[LatentVariableModel, Given], Found]:
    """`function` without graphs, its model in eval mode and afterwards as it was: whoever scores, dropout is off."""

    @wraps(function)
    def scored(model: LatentVariableModel, /, *args: Given.args, **kwargs: Given.kwargs) -> Found:
        with torch.no_grad(), scoring(model):
            return function(model, *args, **kwargs)

    return scored


class Scores(NamedTuple):
    """Per-image sums of log-weights, and KL(q || p(z)) estimated from the same samples, [B]."""

    weights: WeightSums
    kl: Tensor


class SemiImplicitScores(NamedTuple):
    """Log evidence of each image under three treatments of log q(z | x), [B], in nats.

    mixture: log-mean-exp over T fresh noises and the generating one: a lower bound on log p(x) in expectation.
    fresh: without the generating one, the UIVI paper's protocol: biased up, by nats where T is small.
    gaussian: samples from a Gaussian fitted to q(z | x), whose density is exact: a lower bound, and independent.
    """

    mixture: Tensor
    fresh: Tensor
    gaussian: Tensor


def chunks(total: int, size: int) -> Iterator[int]:
    """Sizes that add up to `total`, none above `size`."""
    for start in range(0, total, size):
        yield min(size, total - start)


def log_ratios(
    model: LatentVariableModel, q: DiagonalNormal | Chain, x: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """log w = log p(x, z) - log q(z | x), and log q(z | x) - log p(z), of the z that noise [K, B, D] makes: [K, B]."""
    z, log_q = q.rsample_and_log_prob(noise)
    log_prior = model.prior().log_prob(z)
    return log_prior + model.likelihood(z).log_prob(x) - log_q, log_q - log_prior


@cache
def _fused_log_ratios() -> Callable[..., tuple[Tensor, Tensor]]:
    """The same compiled when it is first called, and once for all models of an architecture."""
    return fused(log_ratios)


@_in_eval
def score(
    model: LatentVariableModel,
    x: Tensor,
    num_samples: int,
    rows: int,
    compiled: bool = False,
    keep: Keep | None = None,
) -> Scores:
    """The importance weights of S samples for each image x [B, X], at most `rows` (image, sample) pairs at a time.

    Compiled or not the noise is the same, and so are the sums, to rounding. A last, smaller chunk is not compiled.
    `keep` hears log_weights.
    """
    q = with_density(model.posterior(x))
    weights, kl = None, torch.zeros(x.shape[0], dtype=torch.float64, device=x.device)
    kept: list[Tensor] = []
    largest = max(1, rows // x.shape[0])
    for size in chunks(num_samples, largest):
        terms = _fused_log_ratios() if compiled and size == largest else log_ratios
        log_w, log_ratio = terms(model, q, x, q.noise(size))
        if keep is not None:
            kept.append(log_w)
        part = summarize(log_w.double())
        weights = part if weights is None else weights.merge(part)
        kl += log_ratio.double().sum(0)
    assert weights is not None
    if keep is not None:
        keep({"log_weights": torch.cat(kept)})
    return Scores(weights, kl / num_samples)


def log_evidence(model: LatentVariableModel, x: Tensor, num_samples: int, rows: int) -> Tensor:
    """L_S of each image, [B], float64: streaming, so memory is bounded whatever S (Burda et al. 2015, Section 5)."""
    return score(model, x, num_samples, rows).weights.log_evidence


@_in_eval
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
    hears mixture, fresh and gaussian: log-weights whose log-mean-exp over the samples is the estimate of that name.
    """
    q = semi_implicit(model.posterior(x))
    size = max(1, rows // x.shape[0])

    def draw(count: int) -> tuple[Tensor, Tensor]:
        conditional = q.conditional(q.noise(count))
        return conditional.rsample_and_log_prob(torch.randn_like(conditional.mean))

    def log_joint(z: Tensor) -> Tensor:
        return torch.cat([model.log_joint(x, part) for part in z.split(size)])

    # Laid out image by image, as log_mixture reads them: ten million numbers are turned round while in cache.
    parts = [q.mean(q.noise(count)).transpose(0, 1) for count in chunks(num_noises, size)]
    means = torch.cat(parts, 1).transpose(0, 1)  # [T, B, D]
    draws = [draw(count) for count in chunks(num_samples, size)]
    z, generating = (torch.cat(found) for found in zip(*draws, strict=True))  # [S, B, D], [S, B]
    fresh = log_mixture(z, means, q.scale, MIXTURE_BLOCK)  # log sum over T
    mixture = torch.logaddexp(fresh, generating) - math.log(num_noises + 1)
    gaussian = widened_gaussian(means, q.scale)
    wide = gaussian.sample((num_samples,))
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


@_in_eval
def posterior_means(model: LatentVariableModel, x: Tensor, num_samples: int) -> tuple[Tensor, Tensor]:
    """Two independent unbiased estimates of E_q[z | x], each [B, D], exact and equal where the mean is known."""
    q = model.posterior(x)
    return q.expectation(num_samples), q.expectation(num_samples)


def activity(means_a: Tensor, means_b: Tensor) -> Tensor:
    """A_u = Cov_x(E_q[z_u | x]) from two independent estimates [N, D] of the mean: [D] (Burda et al. 2015, Sec. 5.1).

    Their noises are independent, so the covariance is unbiased however few samples each used, and may be negative;
    the variance of a single noisy estimate would add its noise and make a dead unit look alive.
    """
    a, b = means_a.double(), means_b.double()
    return ((a - a.mean(0)) * (b - b.mean(0))).sum(0) / (a.shape[0] - 1)


def active_units(means_a: Tensor, means_b: Tensor, threshold: float = ACTIVE_THRESHOLD) -> Tensor:
    """Which latent units vary with x: bool [D]."""
    return activity(means_a, means_b) > threshold


class Plan(NamedTuple):
    """How to score: S, or S and T for a semi-implicit posterior; at most `rows` (image, sample) pairs at a time.

    `compiled` fuses the scoring of full batches; not for a semi-implicit posterior.
    """

    num_samples: int
    num_noises: int
    rows: int
    compiled: bool = False


class Evaluation(NamedTuple):
    """metrics: a float each, named as in MLflow without the "test/"; activities: A_u of each layer, [D_l]."""

    metrics: dict[str, float]
    activities: list[Tensor]


@_in_eval
def evaluate(
    model: LatentVariableModel,
    images: Tensor,
    plan: Plan,
    on_batch: Callable[[int], None],
    keep: Keep | None = None,
) -> Evaluation:
    """Score images [N, X] of 0 and 1, stored as bytes: nll is -L_S with its standard error, lower is better.

    For a semi-implicit posterior nll is nll_mixture, and no elbo or kl is given. `on_batch` hears how many images
    are done, `keep` the log-weights of each batch, in the order of the images. Draws from the global generator: call
    it inside numerics.forked_rng.
    """
    batches: list[dict[str, Tensor]] = []
    means_a, means_b = [], []
    for batch in images.split(IMAGES_PER_BATCH):
        x = batch.to(torch.get_default_dtype())
        batches.append(_score_batch(model, x, plan, keep))
        pair = posterior_means(model, x, MEAN_SAMPLES)
        means_a.append(pair[0])
        means_b.append(pair[1])
        on_batch(len(batch))
    per_image = {name: torch.cat([scores[name] for scores in batches]) for name in batches[0]}
    activities = activity(torch.cat(means_a), torch.cat(means_b)).split(model.latent_sizes)
    counts = [int((layer > ACTIVE_THRESHOLD).sum()) for layer in activities]
    metrics = {name: float(values.mean()) for name, values in per_image.items()}
    metrics["nll_se"] = float(per_image["nll"].std() / math.sqrt(len(images)))
    metrics["active_units"] = sum(counts)
    metrics |= {f"active_units_{layer}": count for layer, count in enumerate(counts, 1)}
    return Evaluation(metrics, list(activities))


def _score_batch(model: LatentVariableModel, x: Tensor, plan: Plan, keep: Keep | None) -> dict[str, Tensor]:
    if isinstance(model.posterior(x), SemiImplicit):
        log_p = score_semi_implicit(model, x, plan.num_samples, plan.num_noises, plan.rows, keep)
        return {"nll": -log_p.mixture} | {f"nll_{name}": -value for name, value in log_p._asdict().items()}
    is_whole = len(x) == IMAGES_PER_BATCH  # a smaller batch, the last, would be compiled again
    scores = score(model, x, plan.num_samples, plan.rows, plan.compiled and is_whole, keep)
    return {
        "nll": -scores.weights.log_evidence,
        "elbo": scores.weights.elbo,
        "kl": scores.kl,
        "effective_sample_size": scores.weights.effective_sample_size,
    }
