"""What a trained model is worth, as metrics: the log evidence of held-out images, and how many latent units it uses."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from evidence.distributions import SemiImplicit
from evidence.evaluation.importance import score
from evidence.evaluation.scoring import Keep, in_eval
from evidence.evaluation.semi_implicit import score_semi_implicit
from evidence.evaluation.units import ACTIVE_THRESHOLD, MEAN_SAMPLES, activity, posterior_means
from evidence.models import LatentVariableModel
from evidence.numerics import forked_rng

IMAGES_PER_BATCH = 100


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


@in_eval
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


# Not of the config's eval: runs that are evaluated otherwise take over a run's validation metrics.
VALIDATION, VALIDATION_SEED = Plan(num_samples=100, num_noises=100, rows=2000), 0


def validate(
    model: LatentVariableModel, images: Tensor, step: int, on_batch: Callable[[int], None]
) -> dict[str, float]:
    """nll, which is -L_100, and active_units at a step, from random numbers that training never sees."""
    with forked_rng(images.device, VALIDATION_SEED, step):
        metrics = evaluate(model, images, VALIDATION, on_batch).metrics
    return {name: metrics[name] for name in ("nll", "active_units")}
