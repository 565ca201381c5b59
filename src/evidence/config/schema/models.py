"""The sections of conf/model/."""

from enum import StrEnum
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from evidence.config.schema.base import Built, Follows
from evidence.config.schema.values import Activation, Count, Name, Positive
from evidence.errors import UserError

Pixels = Annotated[Count, Follows("data.pixels")]


class Posterior(StrEnum):
    """The kinds of q(z | x), as messages name them."""

    WITH_DENSITY = "a posterior with a density"
    SEMI_IMPLICIT = "a semi-implicit posterior"


class Model(Built):
    """conf/model/, and the traits of a model that the checks need. A user's own model has none.

    choices: the model's files.
    posterior: the kind of its posterior, None where it is unknown.
    """

    choices: ClassVar[tuple[str, ...]] = ()
    posterior: ClassVar[Posterior | None] = None
    name: Name

    def layers(self) -> list[int]:
        """The sizes of the encoder's layers, from the first above the pixels to the top. The decoder mirrors them."""
        return []

    def stochastic_layers(self) -> list[int]:
        """The sizes of the stochastic layers. Empty where they are unknown."""
        return []


class _Network(Model, extra="forbid"):
    data_dim: Pixels
    activation: Activation


class Hierarchical(_Network):
    """conf/model/one_layer.yaml and two_layer.yaml."""

    choices = ("one_layer", "two_layer")
    posterior = Posterior.WITH_DENSITY
    built_by: Literal["evidence.models.hierarchical"] = Field(alias="_target_")
    latent: Annotated[list[Count], Field(min_length=1)]
    hidden: list[list[Count]]

    def layers(self) -> list[int]:
        """Each stochastic layer above its hidden ones."""
        return [size for units, top in zip(self.hidden, self.latent, strict=True) for size in (*units, top)]

    def stochastic_layers(self) -> list[int]:
        """All of `latent`."""
        return self.latent

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.hidden) != len(self.latent):
            raise UserError(
                f"model.hidden: {len(self.hidden)} lists for the {len(self.latent)} layers of model.latent;"
                " give a list of sizes for each layer, such as [[200,200],[100,100]]"
            )
        return self


class _SmallVAE(_Network):
    latent: Count
    hidden: list[Count]

    def layers(self) -> list[int]:
        return [*self.hidden, self.latent]

    def stochastic_layers(self) -> list[int]:
        return [self.latent]


class Explicit(_SmallVAE):
    """conf/model/explicit.yaml."""

    choices = ("explicit",)
    posterior = Posterior.WITH_DENSITY
    built_by: Literal["evidence.models.explicit"] = Field(alias="_target_")


class SemiImplicit(_SmallVAE):
    """conf/model/semi_implicit.yaml."""

    choices = ("semi_implicit",)
    posterior = Posterior.SEMI_IMPLICIT
    built_by: Literal["evidence.models.semi_implicit"] = Field(alias="_target_")
    noise: Count
    hidden: Annotated[list[Count], Field(min_length=1)]
    scale: Positive
    scale_floor: Positive

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.scale <= self.scale_floor:
            raise UserError(f"model.scale={self.scale}: must be above model.scale_floor={self.scale_floor}")
        return self
