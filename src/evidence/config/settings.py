"""What a run may be told: its resolved config, as types, ranges and checks between keys.

`Settings` mirrors conf/ key for key and has no defaults, so that conf/ alone holds them and
`Settings.model_dump(by_alias=True)` is the resolved config again.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from evidence.config import limits, messages
from evidence.config.schema import (
    ELBO,
    IWAE,
    SIVI,
    UIVI,
    Adam,
    Count,
    Critic,
    CriticWeighted,
    Digits,
    Explicit,
    FixedImages,
    Folder,
    GreyImages,
    Hierarchical,
    LargeCount,
    Name,
    NotNegative,
    Own,
    OwnData,
    OwnNamed,
    Positive,
    RMSprop,
    Section,
    Seed,
    SemiImplicit,
    Text,
    by_target,
)
from evidence.errors import UserError


class Trainer(Section):
    """conf/trainer/."""

    name: Name
    stages: Annotated[int, Field(ge=1, le=20)] | None  # the twentieth would take 3^19 passes
    steps: LargeCount | None
    batch_size: Count
    learning_rate: Positive
    scale_rate: Positive
    decay: Annotated[float, Field(gt=0, le=1)] | None
    decay_every: LargeCount | None
    optimizer: Annotated[Adam | RMSprop | Own, by_target(Own, Adam, RMSprop)]
    reduction: Literal["sum", "mean"]
    log_every: LargeCount
    checkpoint_seconds: NotNegative

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

    name: Name
    samples: Count
    semi_implicit: SemiImplicitEval
    images: Annotated[int, Field(ge=2, le=10**9)] | None  # one image has no standard error
    rows: LargeCount
    keep_log_weights: bool
    seed: Seed


class Tracking(Section):
    """conf/tracking/."""

    name: Literal["mlflow", "none"]
    uri: str | None


class Paths(Section):
    """The folders in conf/config.yaml."""

    data: Folder
    outputs: Folder


class Settings(Section):
    """The resolved config of one run."""

    k: Count
    seed: Seed
    device: Literal["auto", "cpu", "cuda"]
    name: Name
    compile: bool | Literal["auto"]
    init_from: Text | None
    rerun: bool
    other_code: bool
    plan: bool
    fail_fast: bool
    sync: bool
    paths: Paths
    data: Annotated[
        FixedImages | GreyImages | Digits | OwnData, by_target(OwnData, FixedImages, GreyImages, Digits)
    ]
    model: Annotated[
        Hierarchical | Explicit | SemiImplicit | OwnNamed,
        by_target(OwnNamed, Hierarchical, Explicit, SemiImplicit),
    ]
    trainer: Trainer
    eval: Eval
    tracking: Tracking
    objective: Annotated[
        ELBO | IWAE | CriticWeighted | UIVI | SIVI | OwnNamed,
        by_target(OwnNamed, ELBO, IWAE, CriticWeighted, UIVI, SIVI),
    ]

    @model_validator(mode="after")
    def _check(self) -> Self:
        objective, model = self.objective, self.model
        chosen = f"objective={objective.name}"
        if isinstance(objective, UIVI | SIVI) and isinstance(model, Hierarchical | Explicit):
            raise UserError(f"{chosen} needs model=semi_implicit, not model={model.name}")
        if isinstance(objective, ELBO | IWAE | CriticWeighted) and isinstance(model, SemiImplicit):
            raise UserError(
                f"{chosen} needs a posterior with a density, which model={model.name} has not:"
                " choose model=one_layer, two_layer or explicit (or objective=uivi or sivi)"
            )
        is_deep = isinstance(model, Hierarchical) and len(model.latent) > 1
        if isinstance(objective, ELBO) and objective.kl == "analytic" and is_deep:
            raise UserError(
                f"objective.kl=analytic needs one stochastic layer, and model={model.name} has more:"
                " choose objective.kl=sampled, or model=one_layer or explicit"
            )
        if not isinstance(objective, OwnNamed) and objective.k != self.k:
            raise UserError(f"objective.k={objective.k}: set k={objective.k} instead, which it follows")
        if not isinstance(model, OwnNamed):
            self._check_pixels("model.data_dim", model.data_dim)
        if isinstance(objective, CriticWeighted) and isinstance(objective.critic, Critic):
            self._check_pixels("objective.critic.data_dim", objective.critic.data_dim)
        limits.check(self)
        return self

    def _check_pixels(self, key: str, data_dim: int) -> None:
        if data_dim != self.data.pixels:
            raise UserError(f"{key}={data_dim}: must be data.pixels={self.data.pixels}, which it follows")


def validate(config: dict[str, Any]) -> Settings:
    """The settings in a resolved config; raises UserError on the first thing wrong in it."""
    try:
        return Settings.model_validate(config)
    except ValidationError as error:
        raise UserError(messages.invalid(error, config)) from None
