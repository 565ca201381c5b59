"""What a trained model is worth: the log evidence of held-out images, and how many latent units it uses."""

from evidence.evaluation.importance import Scores, log_evidence, log_ratios, score
from evidence.evaluation.metrics import IMAGES_PER_BATCH, VALIDATION, Evaluation, Plan, evaluate, validate
from evidence.evaluation.scoring import Keep, chunks
from evidence.evaluation.semi_implicit import (
    MIXTURE_BLOCK,
    SemiImplicitScores,
    log_mixture,
    score_semi_implicit,
    widened_gaussian,
)
from evidence.evaluation.units import (
    ACTIVE_THRESHOLD,
    MEAN_SAMPLES,
    active_units,
    activity,
    posterior_means,
)

__all__ = [
    "ACTIVE_THRESHOLD",
    "IMAGES_PER_BATCH",
    "MEAN_SAMPLES",
    "MIXTURE_BLOCK",
    "VALIDATION",
    "Evaluation",
    "Keep",
    "Plan",
    "Scores",
    "SemiImplicitScores",
    "active_units",
    "activity",
    "chunks",
    "evaluate",
    "log_evidence",
    "log_mixture",
    "log_ratios",
    "posterior_means",
    "score",
    "score_semi_implicit",
    "validate",
    "widened_gaussian",
]
