"""The entries of eval.metrics."""

from typing import Annotated, Literal

from pydantic import Field

from evidence.config.schema.base import Built
from evidence.config.schema.values import Count, Positive


class Metric(Built):
    """An entry of eval.metrics. One whose `_target_` is of no section below is the user's own."""


class AnnealedImportanceSampling(Metric, extra="forbid"):
    """`ais` in conf/eval/ais.yaml."""

    built_by: Literal["evidence.evaluation.AnnealedImportanceSampling"] = Field(alias="_target_")
    num_chains: Count
    num_temperatures: Count
    num_leapfrog: Annotated[int, Field(ge=1, le=10**4)]
    step_size: Positive
    target_acceptance: Annotated[float, Field(ge=0.01, lt=1)]
    simulated: bool


class ParetoK(Metric, extra="forbid"):
    """`khat` in conf/eval/ais.yaml."""

    built_by: Literal["evidence.evaluation.ParetoK"] = Field(alias="_target_")


class Jackknife(Metric, extra="forbid"):
    """`jackknife` in conf/eval/ais.yaml."""

    built_by: Literal["evidence.evaluation.Jackknife"] = Field(alias="_target_")
    group: Annotated[int, Field(ge=3, le=10**4)]


class Information(Metric, extra="forbid"):
    """`information` in conf/eval/collapse.yaml."""

    built_by: Literal["evidence.evaluation.Information"] = Field(alias="_target_")
    num_samples: Count
    num_components: Count


class GradientSNR(Metric, extra="forbid"):
    """`snr` in conf/eval/gradients.yaml."""

    built_by: Literal["evidence.evaluation.GradientSNR"] = Field(alias="_target_")
    num_draws: Annotated[int, Field(ge=3, le=10**6)]
    batch_size: Count
    num_batches: Count
