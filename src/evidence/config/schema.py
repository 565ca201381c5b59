"""The sections of a run's config that `_target_` tells apart: objectives, models, data sets and optimizers.

A section whose `_target_` is ours is checked key by key: all its keys are required, no others allowed. Any
other `_target_` is the user's own, and so are its keys (`Own`).
"""

from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from evidence.errors import UserError


def _name(text: str) -> str:
    is_plain = text.isprintable() and not set(text) & set("/\\") and text == text.strip()
    if not is_plain or text.startswith((".", "-")) or not 0 < len(text.encode()) <= 64:
        raise ValueError(
            "must be a name: not empty, at most 64 bytes, no slashes, no space around it, no dot or dash in front"
            " (folders are named so)"
        )
    return text


def _folder(text: str) -> str:
    if not text.isprintable() or text.isspace() or text.startswith("~"):
        raise ValueError(
            "must be a folder: printable, not blank, no ~ in front (write $HOME, outside of quotes)"
        )
    if len(text.encode()) > 1000 or max(len(part.encode()) for part in text.split("/")) > 255:
        raise ValueError("must be a folder: at most 1000 bytes, and 255 between two slashes")
    return text


def _target(text: str) -> str:
    if "." not in text or not all(part.isidentifier() for part in text.split(".")):
        raise ValueError("must be the full name of a class or a function, such as package.module.Class")
    return text


def _float32(value: float) -> float:
    if not 1e-30 <= value <= 1e30:
        raise ValueError("must be from 1e-30 to 1e30: beyond, float32 knows no numbers")
    return value


def _bound(value: float) -> float:
    if value <= 0:
        raise ValueError("must be above 0, or null (clipped at or below 0 the critic's loss has no minimum)")
    return value


Name = Annotated[str, AfterValidator(_name)]
Text = Annotated[str, Field(min_length=1)]
Folder = Annotated[Text, AfterValidator(_folder)]
Target = Annotated[Text, AfterValidator(_target)]
Natural = Annotated[int, Field(ge=0, le=10**9)]  # the caps turn a slip of the keyboard into a message
Count = Annotated[int, Field(ge=1, le=10**6)]
LargeCount = Annotated[int, Field(ge=1, le=10**9)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Positive = Annotated[float, Field(gt=0), AfterValidator(_float32)]
NotNegative = Annotated[float, Field(ge=0)]
Momentum = Annotated[float, Field(ge=0, lt=1)]
Activation = Literal["tanh", "relu"]


class Section(BaseModel):
    """A group of keys: each of them required, no others allowed, each of exactly the type written."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Own(Section):
    """A section built by a class or a function of the user's."""

    model_config = ConfigDict(extra="allow")
    built_by: Target = Field(alias="_target_")


class OwnNamed(Own):
    """A choice of a config group that is the user's own."""

    name: Name


def by_target(other: type[Own], *built_in: type[Section]) -> BeforeValidator:
    """Reads a section as the class whose `_target_` it names, else as `other`."""
    classes = {name: cls for cls in built_in for name in get_args(cls.model_fields["built_by"].annotation)}

    def read(section: Any) -> Section:
        cls = classes.get(str(section.get("_target_")), other) if isinstance(section, dict) else other
        return cls.model_validate(section)

    return BeforeValidator(read)


class _Objective(Section):
    name: Name
    k: Count


class ELBO(_Objective):
    """conf/objective/vae.yaml."""

    built_by: Literal["evidence.objectives.ELBO"] = Field(alias="_target_")
    kl: Literal["sampled", "analytic"]


class IWAE(_Objective):
    """conf/objective/iwae.yaml."""

    built_by: Literal["evidence.objectives.IWAE"] = Field(alias="_target_")
    num_exact: Annotated[int, Field(ge=0, le=10**6)] | None


class Critic(Section):
    """The network in conf/objective/critic.yaml."""

    built_by: Literal["evidence.networks.Critic"] = Field(alias="_target_")
    data_dim: Count
    hidden: list[Count]
    activation: Activation


class CriticWeighted(_Objective):
    """conf/objective/critic.yaml."""

    built_by: Literal["evidence.objectives.CriticWeighted"] = Field(alias="_target_")
    encoder: Literal["literal", "elbo", "path"]
    target: Literal["evidence", "elbo"]
    bound: Annotated[float, AfterValidator(_bound), AfterValidator(_float32)] | None
    warmup: Natural
    critic: Annotated[Critic | Own, by_target(Own, Critic)]


class HMCSampler(Section):
    """The reverse conditional's sampler in conf/objective/uivi.yaml."""

    built_by: Literal["evidence.objectives.HMCSampler"] = Field(alias="_target_")
    burn_in: Annotated[int, Field(ge=0, le=10**4)]
    num_samples: Count
    num_leapfrog: Annotated[int, Field(ge=1, le=10**4)]
    step_size: Positive
    target_acceptance: Annotated[float, Field(ge=0.01, lt=1)]
    adaptation_rate: Annotated[float, Field(ge=0, le=1)]


class UIVI(_Objective):
    """conf/objective/uivi.yaml."""

    built_by: Literal["evidence.objectives.UIVI"] = Field(alias="_target_")
    reverse_conditional: Annotated[HMCSampler | Own, by_target(Own, HMCSampler)]


class SIVI(_Objective):
    """conf/objective/sivi.yaml."""

    built_by: Literal["evidence.objectives.SIVI"] = Field(alias="_target_")
    num_noises: Count


class _Model(Section):
    name: Name
    data_dim: Count
    activation: Activation


class Hierarchical(_Model):
    """conf/model/one_layer.yaml and two_layer.yaml."""

    built_by: Literal["evidence.models.hierarchical"] = Field(alias="_target_")
    latent: Annotated[list[Count], Field(min_length=1)]
    hidden: list[list[Count]]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.hidden) != len(self.latent):
            raise UserError(
                f"model.hidden: {len(self.hidden)} lists for the {len(self.latent)} layers of model.latent;"
                " give a list of sizes for each layer, such as [[200,200],[100,100]]"
            )
        return self


class Explicit(_Model):
    """conf/model/explicit.yaml."""

    built_by: Literal["evidence.models.explicit"] = Field(alias="_target_")
    latent: Count
    hidden: list[Count]


class SemiImplicit(_Model):
    """conf/model/semi_implicit.yaml."""

    built_by: Literal["evidence.models.semi_implicit"] = Field(alias="_target_")
    latent: Count
    noise: Count
    hidden: Annotated[list[Count], Field(min_length=1)]
    scale: Positive
    scale_floor: Positive

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.scale <= self.scale_floor:
            raise UserError(f"model.scale={self.scale}: must be above model.scale_floor={self.scale_floor}")
        return self


class FixedImages(Section):
    """conf/data/mnist_fixed.yaml."""

    is_pinned: ClassVar[bool] = True  # by checksums in the code
    built_by: Literal["evidence.data.mnist_fixed"] = Field(alias="_target_")
    name: Name
    folder: Folder
    pixels: Literal[784]


class GreyImages(Section):
    """conf/data/mnist.yaml, fashion_mnist.yaml and omniglot.yaml."""

    is_pinned: ClassVar[bool] = True  # by checksums in the code
    built_by: Literal["evidence.data.mnist", "evidence.data.fashion_mnist", "evidence.data.omniglot"] = Field(
        alias="_target_"
    )
    name: Name
    folder: Folder
    pixels: Literal[784]
    binarization: Literal["stochastic", "threshold"]


class Digits(Section):
    """conf/data/digits.yaml."""

    is_pinned: ClassVar[bool] = True  # by checksums in the code
    built_by: Literal["evidence.data.digits"] = Field(alias="_target_")
    name: Name
    pixels: Literal[64]
    binarization: Literal["stochastic", "threshold"]


class OwnData(OwnNamed):
    """The user's own data, whose models need to know how many pixels it has. A run's identity has its content."""

    is_pinned: ClassVar[bool] = False
    pixels: Count


class Adam(Section):
    """The optimizer in conf/trainer/quick.yaml."""

    built_by: Literal["torch.optim.Adam"] = Field(alias="_target_")
    betas: Annotated[list[Momentum], Field(min_length=2, max_length=2)]
    eps: Positive
    fused: bool


class RMSprop(Section):
    """The optimizer in conf/trainer/uivi_paper.yaml."""

    built_by: Literal["torch.optim.RMSprop"] = Field(alias="_target_")
    alpha: Momentum
    eps: Positive
