"""What a trained model is worth: the log evidence of held-out images, and how many latent units it uses."""

from evidence.evaluation.ais import AnnealedImportanceSampling
from evidence.evaluation.diagnostics import Jackknife, ParetoK
from evidence.evaluation.gradients import GradientSNR
from evidence.evaluation.importance import ImportanceSampling, Scores, log_ratios, score
from evidence.evaluation.information import Information
from evidence.evaluation.metrics import (
    VALIDATION,
    Evaluation,
    Evaluators,
    Noise,
    evaluate,
    validate,
)
from evidence.evaluation.scoring import ON_CPU, Evaluator, Keep, Sizes, blocks, sizes
from evidence.evaluation.semi_implicit import (
    MIXTURE_BLOCK,
    SemiImplicitSampling,
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
from evidence.evaluation.user_metrics import Metric, WithMetrics, measure_whole

__all__ = [
    "ACTIVE_THRESHOLD",
    "MEAN_SAMPLES",
    "MIXTURE_BLOCK",
    "ON_CPU",
    "VALIDATION",
    "AnnealedImportanceSampling",
    "Evaluation",
    "Evaluator",
    "Evaluators",
    "GradientSNR",
    "ImportanceSampling",
    "Information",
    "Jackknife",
    "Keep",
    "Metric",
    "Noise",
    "ParetoK",
    "Scores",
    "SemiImplicitSampling",
    "SemiImplicitScores",
    "Sizes",
    "WithMetrics",
    "active_units",
    "activity",
    "blocks",
    "evaluate",
    "log_mixture",
    "log_ratios",
    "measure_whole",
    "posterior_means",
    "score",
    "score_semi_implicit",
    "sizes",
    "validate",
    "widened_gaussian",
]
