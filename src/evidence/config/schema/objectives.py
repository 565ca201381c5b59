"""The sections of conf/objective/."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, SerializeAsAny, model_validator

from evidence.config.schema.base import Built, Follows, by_target
from evidence.config.schema.models import Model, Pixels, Posterior
from evidence.config.schema.values import FLOAT32, Activation, Count, Name, Natural, Positive
from evidence.errors import UserError


class Objective(Built):
    """conf/objective/, and the traits of an objective that the checks need.

    choices: the objective's files.
    posterior: the kind of posterior that it needs, None where any will do.
    in_pieces: whether the samples of an image pass the networks in pieces of bounded size.
    """

    choices: ClassVar[tuple[str, ...]] = ()
    posterior: ClassVar[Posterior | None] = None
    in_pieces: ClassVar[bool] = False
    name: Name

    def passes(self) -> dict[str, int]:
        """How often each of the k samples of an image passes the networks: the product of these keys' values."""
        return {}

    def networks(self) -> dict[str, list[int]]:
        """The layer sizes above the pixels of the objective's own networks, by the key that sets them."""
        return {}

    def check_layers(self, model: Model) -> None:
        """Raise UserError where a setting of the objective's cannot have the model's number of layers."""


class _Objective(Objective, extra="forbid"):
    k: Annotated[Count, Follows("k")]


class ELBO(_Objective):
    """conf/objective/vae.yaml."""

    choices = ("vae",)
    posterior = Posterior.WITH_DENSITY
    in_pieces = True
    built_by: Literal["evidence.objectives.ELBO"] = Field(alias="_target_")
    kl: Literal["sampled", "analytic"]

    def check_layers(self, model: Model) -> None:
        """The KL divergence of two chains has no closed form."""
        count = len(model.stochastic_layers())
        if self.kl == "analytic" and count > 1:
            raise UserError(
                f"objective.kl=analytic needs one stochastic layer, and model={model.name} has {count}:"
                " choose objective.kl=sampled, or a model of one, such as model=one_layer"
            )


class _Weighted(_Objective):
    """An objective whose gradient weighs k samples: `num_exact` says which of them go backward."""

    posterior = Posterior.WITH_DENSITY
    in_pieces = True
    num_exact: Annotated[int, Field(ge=0, le=10**6)] | None


class _OfSeveral(_Weighted):
    """Whose gradient is zero for one sample."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.k < 2 and self._needs_several():
            raise UserError(f"k={self.k}: objective={self.name} needs k=2 or more, since {self._reason()}")
        return self

    def _needs_several(self) -> bool:
        return True

    def _reason(self) -> str:
        return "its gradient for the encoder is zero at k=1"


class IWAE(_Weighted):
    """conf/objective/iwae.yaml."""

    choices = ("iwae",)
    replaced = dict.fromkeys(
        ("backward", "m"),
        "objective.num_exact=null (was backward=all), 0 (was sampled), or m, such as 4 (was top with m=4)",
    )
    built_by: Literal["evidence.objectives.IWAE"] = Field(alias="_target_")


class PathGradient(_Weighted):
    """conf/objective/dreg.yaml and stl.yaml."""

    choices = ("dreg", "stl")
    built_by: Literal["evidence.objectives.DReG", "evidence.objectives.STL"] = Field(alias="_target_")


class RWSDReG(_OfSeveral):
    """conf/objective/rws_dreg.yaml."""

    choices = ("rws_dreg",)
    built_by: Literal["evidence.objectives.RWSDReG"] = Field(alias="_target_")


class RWS(_OfSeveral):
    """conf/objective/rws.yaml."""

    choices = ("rws",)
    built_by: Literal["evidence.objectives.RWS"] = Field(alias="_target_")
    encoder: Literal["wake", "sleep"]

    def _needs_several(self) -> bool:
        return self.encoder == "wake"

    def _reason(self) -> str:
        return "the mean of its wake-phase gradient is zero at k=1; objective.encoder=sleep takes any k"


class TVO(_OfSeveral):
    """conf/objective/tvo.yaml."""

    choices = ("tvo",)
    built_by: Literal["evidence.objectives.TVO"] = Field(alias="_target_")
    points: Annotated[int, Field(ge=1, le=1000)]
    first: Annotated[float, Field(gt=0, lt=1), FLOAT32] | None

    def _reason(self) -> str:
        return "its gradient has a covariance over the samples"


class Grouped(_Weighted):
    """conf/objective/miwae.yaml and piwae.yaml."""

    choices = ("miwae", "piwae")
    built_by: Literal["evidence.objectives.MIWAE", "evidence.objectives.PIWAE"] = Field(alias="_target_")
    groups: Count | None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.groups is not None and self.k % self.groups:
            divisors = [str(each) for each in range(1, self.k + 1) if self.k % each == 0]
            raise UserError(
                f"objective.groups={self.groups}: must divide k={self.k}; choose one of {', '.join(divisors)}"
            )
        return self


class CIWAE(_Weighted):
    """conf/objective/ciwae.yaml."""

    choices = ("ciwae",)
    built_by: Literal["evidence.objectives.CIWAE"] = Field(alias="_target_")
    beta: Annotated[float, Field(ge=0, le=1)]


class VRIWAE(_Weighted):
    """conf/objective/vr_iwae.yaml."""

    choices = ("vr_iwae",)
    built_by: Literal["evidence.objectives.VRIWAE"] = Field(alias="_target_")
    alpha: Annotated[float, Field(ge=0, le=0.9999)]  # nearer to 1, float32 has few digits of 1 - alpha
    doubly_reparameterized: bool


class Network(Built):
    """A network inside of an objective."""


class Critic(Network, extra="forbid"):
    """The network in conf/objective/critic.yaml."""

    built_by: Literal["evidence.networks.Critic"] = Field(alias="_target_")
    data_dim: Pixels
    hidden: list[Count]
    activation: Activation


def _bound(value: float) -> float:
    if value <= 0:
        raise ValueError("must be above 0, or null (clipped at or below 0 the critic's loss has no minimum)")
    return value


class CriticWeighted(_Objective):
    """conf/objective/critic.yaml."""

    choices = ("critic",)
    posterior = Posterior.WITH_DENSITY
    built_by: Literal["evidence.objectives.CriticWeighted"] = Field(alias="_target_")
    encoder: Literal["literal", "elbo", "path"]
    target: Literal["evidence", "elbo"]
    bound: Annotated[float, AfterValidator(_bound), FLOAT32] | None
    warmup: Natural
    critic: Annotated[SerializeAsAny[Network], by_target(Network)]

    def networks(self) -> dict[str, list[int]]:
        """The critic, unless it is the user's own."""
        return {"critic.hidden": self.critic.hidden} if isinstance(self.critic, Critic) else {}


class ReverseConditional(Built):
    """A sampler of q(eps | z, x)."""


class HMCSampler(ReverseConditional, extra="forbid"):
    """conf/objective/reverse_conditional/hmc.yaml."""

    built_by: Literal["evidence.objectives.HMCSampler"] = Field(alias="_target_")
    burn_in: Annotated[int, Field(ge=0, le=10**4)]
    num_samples: Count
    num_leapfrog: Annotated[int, Field(ge=1, le=10**4)]
    step_size: Positive
    target_acceptance: Annotated[float, Field(ge=0.01, lt=1)]
    adaptation_rate: Annotated[float, Field(ge=0, le=1)]


class ImportanceSampler(ReverseConditional, extra="forbid"):
    """conf/objective/reverse_conditional/importance.yaml."""

    built_by: Literal["evidence.objectives.ImportanceSampler"] = Field(alias="_target_")
    num_samples: Count


class ReverseProposal(Network, extra="forbid"):
    """The network in conf/objective/reverse_conditional/learned.yaml."""

    built_by: Literal["evidence.networks.ReverseProposal"] = Field(alias="_target_")
    latent: Annotated[Count, Follows("model.latent")]
    data_dim: Pixels
    noise: Annotated[Count, Follows("model.noise")]
    hidden: list[Count]
    activation: Activation


class LearnedSampler(ReverseConditional, extra="forbid"):
    """conf/objective/reverse_conditional/learned.yaml."""

    built_by: Literal["evidence.objectives.LearnedSampler"] = Field(alias="_target_")
    num_samples: Count
    rate: Positive
    proposal: Annotated[SerializeAsAny[Network], by_target(Network)]


class UIVI(_Objective):
    """conf/objective/uivi.yaml."""

    choices = ("uivi",)
    posterior = Posterior.SEMI_IMPLICIT
    built_by: Literal["evidence.objectives.UIVI"] = Field(alias="_target_")
    reverse_conditional: Annotated[SerializeAsAny[ReverseConditional], by_target(ReverseConditional)]

    def passes(self) -> dict[str, int]:
        """Once for each sample of the reverse conditional. The user's own sampler is not known."""
        sampler = self.reverse_conditional
        if not isinstance(sampler, HMCSampler | ImportanceSampler | LearnedSampler):
            return {}
        return {"reverse_conditional.num_samples": sampler.num_samples}

    def networks(self) -> dict[str, list[int]]:
        """The proposal, unless it is the user's own."""
        sampler = self.reverse_conditional
        if not isinstance(sampler, LearnedSampler) or not isinstance(sampler.proposal, ReverseProposal):
            return {}
        return {"reverse_conditional.proposal.hidden": sampler.proposal.hidden}


class SIVI(_Objective):
    """conf/objective/sivi.yaml."""

    choices = ("sivi",)
    posterior = Posterior.SEMI_IMPLICIT
    built_by: Literal["evidence.objectives.SIVI"] = Field(alias="_target_")
    num_noises: Count

    def passes(self) -> dict[str, int]:
        """Once for each noise of the mixture."""
        return {"num_noises": self.num_noises}
