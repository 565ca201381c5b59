"""The log evidence of images under a posterior with a density: log p(x) >= E L_S with L_S = log (1/S) sum_s w_s."""

from collections.abc import Callable, Iterator
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from evidence.compiling import fused
from evidence.distributions import Chain, DiagonalNormal, with_density
from evidence.evaluation.scoring import IMPORTANCE, Keep, blocks, in_eval, sizes
from evidence.models import LatentVariableModel
from evidence.numerics import WeightSums, summarize
from evidence.streams import Stream, drawing, open_stream, samples


class Scores(NamedTuple):
    """Per-image sums of log-weights, and KL(q || p(z)) estimated from the same samples, [B]."""

    weights: WeightSums
    kl: Tensor


class ImportanceSampling(NamedTuple):
    """Scores by L_S, with S = num_samples, for a posterior that has a density.

    Networks see at most `rows` (image, sample) pairs at a time. `compiled` fuses the scoring of full batches.
    """

    num_samples: int
    rows: int
    compiled: bool = False

    def fewer(self, num_samples: int) -> "ImportanceSampling":
        """The same with so few samples, not compiled."""
        return self._replace(num_samples=num_samples, compiled=False)

    def scores(self, model: LatentVariableModel, x: Tensor, keep: Keep | None = None) -> dict[str, Tensor]:
        """nll = -L_S, elbo, kl and effective_sample_size of each image x [B, X], in nats: [B] each."""
        is_whole = len(x) == sizes(x.device).images  # a smaller batch, the last, would be compiled again
        found = score(model, x, self.num_samples, self.rows, self.compiled and is_whole, keep)
        return {
            "nll": -found.weights.log_evidence,
            "elbo": found.weights.elbo,
            "kl": found.kl,
            "effective_sample_size": found.weights.effective_sample_size,
        }


def drawn_log_ratios(
    model: LatentVariableModel,
    q: DiagonalNormal | Chain,
    x: Tensor,
    num_samples: int,
    first: Tensor,
    stream: Stream | None,
) -> tuple[Tensor, Tensor]:
    """`log_ratios` of the samples first, first + 1, ... of the stream: [K, B] each."""
    with drawing(stream):
        samples(first, IMPORTANCE)
        noise = q.noise(num_samples)
    return log_ratios(model, q, x, noise)


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
    return fused(drawn_log_ratios, {"fallback_random": True})


@in_eval
def score(
    model: LatentVariableModel,
    x: Tensor,
    num_samples: int,
    rows: int,
    compiled: bool = False,
    keep: Keep | None = None,
) -> Scores:
    """The importance weights of S samples for each image x [B, X], at most `rows` (image, sample) pairs at a time.

    Compiled or not the noise is the same, and so are the sums, to rounding. A last, smaller piece is not compiled.
    `keep` is called with log_weights.
    """
    q = with_density(model.posterior(x))
    weights, kl = None, torch.zeros(x.shape[0], dtype=torch.float64, device=x.device)
    kept: list[Tensor] = []
    for log_w, log_ratio in _pieces(model, q, x, num_samples, max(1, rows // x.shape[0]), compiled):
        if keep is not None:
            kept.append(log_w)
        part = summarize(log_w.double())
        weights = part if weights is None else weights.merge(part)
        kl += log_ratio.double().sum(0)
    assert weights is not None
    if keep is not None:
        keep({"log_weights": torch.cat(kept)})
    return Scores(weights, kl / num_samples)


def _pieces(
    model: LatentVariableModel,
    q: DiagonalNormal | Chain,
    x: Tensor,
    num_samples: int,
    largest: int,
    compiled: bool,
) -> Iterator[tuple[Tensor, Tensor]]:
    """`log_ratios` of all samples, at most `largest` at a time.

    Noise is drawn `sizes(...).samples` samples at a time, whatever `largest`: a user's q(z | x) may draw by
    torch.randn. Compiled pieces draw their own, which a stream makes the same.
    """
    stream = open_stream()
    if compiled:
        tensors = None if stream is None else stream.tensors(x.device)  # an int would be compiled in
        for first, count in blocks(num_samples, largest):
            terms = _fused_log_ratios() if count == largest else drawn_log_ratios
            yield terms(model, q, x, count, torch.tensor(first, device=x.device), tensors)
        return
    at_once = sizes(x.device).samples
    for first, count in blocks(num_samples, max(at_once, largest // at_once * at_once)):
        noise = []
        for within, number in blocks(count, at_once):
            samples(first + within, IMPORTANCE)
            noise.append(q.noise(number))
        for piece in torch.cat(noise).split(largest):
            yield log_ratios(model, q, x, piece)
