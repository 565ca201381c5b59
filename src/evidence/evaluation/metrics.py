"""What a trained model is worth, as metrics: the log evidence of held-out images, and how many latent units it uses."""

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from evidence import streams
from evidence.distributions import has_density
from evidence.evaluation.importance import ImportanceSampling
from evidence.evaluation.scoring import ON_CPU, Evaluator, Keep, in_eval, sizes
from evidence.evaluation.semi_implicit import SemiImplicitSampling
from evidence.evaluation.units import ACTIVE_THRESHOLD, MEAN_SAMPLES, activity, posterior_means
from evidence.models import LatentVariableModel
from evidence.modules import scoring
from evidence.streams import Stream, drawing, forked_rng


class Evaluators(NamedTuple):
    """An evaluator for posteriors with a density, and one for those without."""

    with_density: ImportanceSampling
    without_density: SemiImplicitSampling

    def with_rows(self, rows: int) -> "Evaluators":
        """The same with so many (image, sample) pairs at a time."""
        return Evaluators(self.with_density._replace(rows=rows), self.without_density._replace(rows=rows))

    def suited_to(self, model: LatentVariableModel, images: Tensor) -> Evaluator:
        """The one that q(z | x) asks for by its `has_density`; images [N, X], of which the first is looked at."""
        x = images[:1].to(next(model.parameters()))
        with torch.no_grad(), scoring(model), forked_rng(x.device, 0):
            return self.with_density if has_density(model.posterior(x)) else self.without_density


class Noise(NamedTuple):
    """Random numbers that depend on the seed, the purpose, the number of the image, int64 [N], and that of the sample.

    So they depend neither on how many rows are computed at a time nor on which other images are scored.
    """

    seed: int
    purpose: int
    images: Tensor

    @contextlib.contextmanager
    def of_batch(self, number: int, device: torch.device) -> Iterator[None]:
        """Inside, draws are those of a batch of images. A user's torch.randn is seeded by the batch's first image."""
        rows = self.images.split(sizes(device).images)[number].to(device)
        stream = Stream(self.seed, self.purpose, images=rows)
        with forked_rng(device, self.seed, self.purpose, int(rows[0])), drawing(stream):
            yield


class Evaluation(NamedTuple):
    """metrics: a float each, named as in MLflow without the "test/"; activities: A_u of each layer, [D_l]."""

    metrics: dict[str, float]
    activities: list[Tensor]


@in_eval
def evaluate(
    model: LatentVariableModel,
    images: Tensor,
    evaluator: Evaluator,
    on_batch: Callable[[int], None],
    keep: Keep | None = None,
    noise: Noise | None = None,
) -> Evaluation:
    """Score images [N, X] of 0 and 1, stored as bytes: nll with its standard error, lower is better.

    `on_batch` is called with how many images are done, `keep` with the log-weights of each batch, in the order of the
    images. Without `noise` random numbers come from the global generator, with it the generator goes on as if nothing
    had been drawn.
    """
    batches: list[dict[str, Tensor]] = []
    means_a, means_b = [], []
    for number, batch in enumerate(images.split(sizes(images.device).images)):
        x = batch.to(torch.get_default_dtype())
        with noise.of_batch(number, x.device) if noise else contextlib.nullcontext():
            batches.append(evaluator.scores(model, x, keep))
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


# Not of the config's eval: runs that are evaluated otherwise take over a run's validation metrics.
VALIDATION = Evaluators(ImportanceSampling(100, ON_CPU.rows), SemiImplicitSampling(100, 100, ON_CPU.rows))
VALIDATION_SEED = 0


def validate(model: LatentVariableModel, images: Tensor, on_batch: Callable[[int], None]) -> dict[str, float]:
    """valid/nll, which is -L_100, and valid/active_units, from the same random numbers at each step of each run."""
    noise = Noise(VALIDATION_SEED, streams.VALIDATION, torch.arange(len(images)))
    evaluator = VALIDATION.with_rows(sizes(images.device).rows).suited_to(model, images)
    metrics = evaluate(model, images, evaluator, on_batch, noise=noise).metrics
    return {f"valid/{name}": metrics[name] for name in ("nll", "active_units")}
