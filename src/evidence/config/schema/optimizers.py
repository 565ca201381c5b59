"""The sections trainer.optimizer of conf/trainer/."""

from typing import Annotated, Literal

from pydantic import Field

from evidence.config.schema.base import Built
from evidence.config.schema.values import Momentum, Positive


class Optimizer(Built):
    """trainer.optimizer: any optimizer of torch or of the user's own."""


class Adam(Optimizer, extra="forbid"):
    """The optimizer in conf/trainer/quick.yaml."""

    built_by: Literal["torch.optim.Adam"] = Field(alias="_target_")
    betas: Annotated[list[Momentum], Field(min_length=2, max_length=2)]
    eps: Positive
    fused: bool


class RMSprop(Optimizer, extra="forbid"):
    """The optimizer in conf/trainer/uivi_paper.yaml."""

    built_by: Literal["torch.optim.RMSprop"] = Field(alias="_target_")
    alpha: Momentum
    eps: Positive
