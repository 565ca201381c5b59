"""Types the settings of a run: its resolved config, as types, ranges and checks between keys.

`Settings` mirrors conf/ key by key. It has no defaults, so that only conf/ has them.
`Settings.model_dump(by_alias=True)` is the resolved config again.
"""

import operator
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SerializeAsAny, ValidationError, model_validator

from evidence.config import limits, messages
from evidence.config.schema.base import Section, by_target, followers, subclasses
from evidence.config.schema.data import Data
from evidence.config.schema.metrics import Metric
from evidence.config.schema.models import Model, Posterior
from evidence.config.schema.objectives import Objective
from evidence.config.schema.optimizers import Optimizer
from evidence.config.schema.roles import Role
from evidence.config.schema.tags import TagName, TagValue
from evidence.config.schema.values import (
    Count,
    Folder,
    Interval,
    LargeCount,
    Name,
    NotNegative,
    Positive,
    Seed,
    Text,
    switch,
)
from evidence.errors import UserError

# What was done before there were these keys.
LATER: dict[str, dict[str, Any]] = {
    "trainer": {"validate_every": None},
    "eval": {"also": {}},
    "tracking": {"system_metrics": False},
}
Stages = Annotated[int, Field(ge=1, le=20)]  # the twentieth would take 3^19 passes


class Trainer(Section):
    """conf/trainer/."""

    name: Annotated[Name, Role.LABEL]
    stages: Annotated[Stages | None, Role.END]
    steps: Annotated[LargeCount | None, Role.END]
    batch_size: Count
    learning_rate: Positive
    scale_rate: Positive
    decay: Annotated[float, Field(gt=0, le=1)] | None
    decay_every: LargeCount | None
    optimizer: Annotated[SerializeAsAny[Optimizer], by_target(Optimizer)]
    reduction: Literal["sum", "mean"]
    log_every: Annotated[LargeCount, Role.LABEL]
    validate_every: Annotated[Interval, Role.LABEL]
    checkpoint_seconds: Annotated[NotNegative, Role.LABEL]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.stages is not None and self.steps is not None:
            raise UserError(
                f"trainer.stages={self.stages} and trainer.steps={self.steps}: give exactly one;"
                " set the other to null (trainer.stages=null or trainer.steps=null)"
            )
        if self.stages is None and self.steps is None:
            raise UserError("trainer.stages and trainer.steps are both null: give exactly one")
        if (self.decay is None) != (self.decay_every is None):
            raise UserError("trainer.decay and trainer.decay_every: give both, or set both to null")
        if self.decay is not None and self.steps is None:
            raise UserError("trainer.decay goes with trainer.steps only: the stages have their own rates")
        if self.steps is not None and self.decay_every is not None and self.steps > 1000 * self.decay_every:
            raise UserError(
                f"trainer.decay_every={self.decay_every}: lowers the learning rate more than 1000 times in"
                f" trainer.steps={self.steps}, and each time validates and keeps a checkpoint"
            )
        return self


class SemiImplicitEval(Section):
    """The part of conf/eval/ for a posterior without a density."""

    samples: Count
    noises: Count


class Eval(Section):
    """conf/eval/."""

    name: Annotated[Name, Role.LABEL]
    samples: Count
    semi_implicit: SemiImplicitEval
    images: Annotated[int, Field(ge=2, le=10**9)] | None  # one image has no standard error
    rows: Annotated[LargeCount | None, Role.OUTSIDE]
    keep_log_weights: Annotated[bool, Role.FILES]
    seed: Seed
    metrics: dict[Name, Annotated[SerializeAsAny[Metric], by_target(Metric)]]
    also: dict[Name, Annotated[SerializeAsAny[Data], by_target(Data)]]


class Tracking(Section):
    """conf/tracking/."""

    name: Literal["mlflow", "none"]
    uri: str | None
    system_metrics: bool


class Paths(Section):
    """The folders in conf/config.yaml."""

    data: Folder
    outputs: Folder


class Settings(Section):
    """The resolved config of one run."""

    k: Count
    seed: Seed
    device: Annotated[Literal["auto", "cpu", "cuda"], Role.OUTSIDE]
    precision: Literal["float32", "tf32"]
    name: Annotated[Name, Role.OUTSIDE]
    compile: Annotated[bool | Literal["auto"], switch("auto"), Role.OUTSIDE]
    init_from: Annotated[Text | None, Role.SOURCE]
    rerun: Annotated[bool, Role.OUTSIDE]
    other_code: Annotated[bool, Role.OUTSIDE]
    plan: Annotated[bool, Role.OUTSIDE]
    fail_fast: Annotated[bool, Role.OUTSIDE]
    sync: Annotated[bool | Literal["all"], switch("all"), Role.OUTSIDE]
    paths: Annotated[Paths, Role.OUTSIDE]
    data: Annotated[SerializeAsAny[Data], by_target(Data)]
    model: Annotated[SerializeAsAny[Model], by_target(Model)]
    trainer: Trainer
    eval: Annotated[Eval, Role.END]
    tracking: Annotated[Tracking, Role.OUTSIDE]
    tags: Annotated[dict[TagName, TagValue], Role.OUTSIDE]
    objective: Annotated[SerializeAsAny[Objective], by_target(Objective)]

    @model_validator(mode="after")
    def _check(self) -> Self:
        self._check_posterior()
        self.objective.check_layers(self.model)
        self._check_also()
        for key, value, followed in followers(self):
            expected = operator.attrgetter(followed)(self)
            if value != expected:
                raise UserError(f"{key}={value}: must be {followed}={expected}, which it follows")
        limits.check(self)
        return self

    def of_new_run(self) -> Self:
        """The settings, as a command may give them. Raises: UserError where the k of a user's class is not `k`."""
        if (own := (self.objective.model_extra or {}).get("k", self.k)) != self.k:
            raise UserError(f"objective.k={own}: must be k={self.k}: write k: ${{k}} in its file")
        return self

    def _check_posterior(self) -> None:
        needed, offered = self.objective.posterior, self.model.posterior
        if needed and offered and needed != offered:
            raise UserError(
                f"objective={self.objective.name} needs {needed}, and model={self.model.name} has none: choose"
                f" model={_choices(Model, needed)} (or objective={_choices(Objective, offered)})"
            )

    def _check_also(self) -> None:
        for name, each in self.eval.also.items():
            if not each.is_pinned:
                raise UserError(
                    f"eval.also.{name}._target_={each.built_by}: must be a data set of evidence.data"
                )
            if each.pixels != self.data.pixels:
                raise UserError(
                    f"eval.also.{name}.pixels={each.pixels}: must be data.pixels={self.data.pixels}, as the model has"
                )


def _choices(kind: type[Model] | type[Objective], posterior: Posterior) -> str:
    """The files in conf/ that have, or need, this kind of posterior, such as "one_layer, two_layer or explicit"."""
    *names, last = (name for cls in subclasses(kind) if cls.posterior == posterior for name in cls.choices)
    return f"{', '.join(names)} or {last}" if names else last


def completed(config: dict[str, Any]) -> dict[str, Any]:
    """A record's config with the keys that are newer than the record, as they then were."""
    sections = {
        name: {**keys, **config[name]} for name, keys in LATER.items() if isinstance(config.get(name), dict)
    }
    return {"tags": {}, **config, **sections}


def validate(config: dict[str, Any]) -> Settings:
    """The settings in a resolved config. Raises: UserError on the first error in it."""
    try:
        return Settings.model_validate(config)
    except ValidationError as error:
        raise UserError(messages.invalid(error, config)) from None
