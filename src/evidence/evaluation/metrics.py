"""What a trained model is worth, as metrics: the log evidence of held-out images, and how many latent units it uses."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from evidence.distributions import has_density
from evidence.evaluation.importance import ImportanceSampling
from evidence.evaluation.scoring import IMAGES_PER_BATCH, Evaluator, Keep, in_eval
from evidence.evaluation.semi_implicit import SemiImplicitSampling
from evidence.evaluation.units import ACTIVE_THRESHOLD, MEAN_SAMPLES, activity, posterior_means
from evidence.models import LatentVariableModel
from evidence.numerics import forked_rng, scoring


class Evaluators(NamedTuple):
    """An evaluator for posteriors with a density, and one for those without."""

    with_density: ImportanceSampling
    without_density: SemiImplicitSampling

    def suited_to(self, model: LatentVariableModel, images: Tensor) -> Evaluator:
        """The one that q(z | x) asks for by its `has_density`; images [N, X], of which the first is looked at."""
        x = images[:1].to(next(model.parameters()))
        with torch.no_grad(), scoring(model), forked_rng(x.device, 0):
            return self.with_density if has_density(model.posterior(x)) else self.without_density


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
) -> Evaluation:
    """Score images [N, X] of 0 and 1, stored as bytes: nll with its standard error, lower is better.

    `on_batch` hears how many images are done, `keep` the log-weights of each batch, in the order of the images. Draws
    from the global generator: call it inside numerics.forked_rng.
    """
    batches: list[dict[str, Tensor]] = []
    means_a, means_b = [], []
    for batch in images.split(IMAGES_PER_BATCH):
        x = batch.to(torch.get_default_dtype())
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
VALIDATION = Evaluators(ImportanceSampling(100, 2000), SemiImplicitSampling(100, 100, 2000))
VALIDATION_SEED = 0


def validate(
    model: LatentVariableModel, images: Tensor, step: int, on_batch: Callable[[int], None]
) -> dict[str, float]:
    """valid/nll, which is -L_100, and valid/active_units at a step, from random numbers that training never sees."""
    with forked_rng(images.device, VALIDATION_SEED, step):
        metrics = evaluate(model, images, VALIDATION.suited_to(model, images), on_batch).metrics
    return {f"valid/{name}": metrics[name] for name in ("nll", "active_units")}


def evaluate_seeded(
    model: LatentVariableModel,
    images: Tensor,
    evaluator: Evaluator,
    seed: int,
    step: int,
    on_batch: Callable[[int], None],
    keep: Keep | None = None,
) -> Evaluation:
    """`evaluate` at the last step of a training, from random numbers that depend on the seed and the step alone."""
    with forked_rng(images.device, seed, step):
        return evaluate(model, images, evaluator, on_batch, keep)
