"""What a run may be told: its resolved config, as types, ranges and checks between keys.

`Settings` mirrors conf/ key for key and has no defaults, so that conf/ alone holds them and
`Settings.model_dump(by_alias=True)` is the resolved config again.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from evidence import complaints
from evidence.errors import UserError
from evidence.sections import (
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
    GreyImages,
    Hierarchical,
    LargeCount,
    Name,
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
    seed: Seed


class Tracking(Section):
    """conf/tracking/."""

    name: Literal["mlflow", "none"]
    uri: str | None


class Paths(Section):
    """The folders in conf/config.yaml."""

    data: Text
    outputs: Text


class Settings(Section):
    """The resolved config of one run."""

    k: Count
    seed: Seed
    device: Literal["auto", "cpu", "cuda"]
    name: Name
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
        return self

    def _check_pixels(self, key: str, data_dim: int) -> None:
        if data_dim != self.data.pixels:
            raise UserError(f"{key}={data_dim}: must be data.pixels={self.data.pixels}, which it follows")


def validate(config: dict[str, Any]) -> Settings:
    """The settings in a resolved config; raises UserError on the first thing wrong in it."""
    try:
        return Settings.model_validate(config)
    except ValidationError as error:
        raise UserError(complaints.invalid(error, config)) from None
