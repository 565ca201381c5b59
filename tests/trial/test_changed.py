"""What would be wrong only once training has changed something: parameters, images, numbers that runs share."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from evidence import models
from evidence.distributions import Bernoulli, DiagonalNormal
from evidence.errors import UserError
from evidence.evaluation import ImportanceSampling
from evidence.models import LatentVariableModel
from evidence.objectives import ELBO, Estimate, Objective, Weighted
from evidence.objectives.weighting import Weights
from evidence.trial import first_step

PIXELS, LATENT = 20, 3


def hierarchical() -> LatentVariableModel:
    return models.hierarchical(PIXELS, [LATENT], [[8]], "tanh", torch.full((PIXELS,), 0.3))


def tried(model: LatentVariableModel, objective: Objective) -> list[str]:
    images = torch.bernoulli(torch.full((8, PIXELS), 0.3))
    return first_step.check(
        model, objective, images, images[: first_step.SCORED].byte(), ImportanceSampling(50, 200), 8
    ).unsaved


class Around(nn.Module):
    """A module around another one."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner


class Upper(Around):
    """An encoder of the upper half, which writes into the images."""

    def forward(self, x: Tensor) -> object:
        x[:, PIXELS // 2 :] = 0
        return self.inner(x)


class OfUpper(Around):
    """The same on a copy."""

    def forward(self, x: Tensor) -> object:
        x = x.clone()
        x[:, PIXELS // 2 :] = 0
        return self.inner(x)


class Darker(Bernoulli):
    """A density that writes into the images."""

    def log_prob(self, x: Tensor) -> Tensor:
        return super().log_prob(x.mul_(0))


class DarkerLikelihood(Around):
    def forward(self, z: Tensor) -> Bernoulli:
        return Darker(self.inner(z).logits)


class Kept(Around):
    """A posterior that keeps its scale in a dict when it does not train."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__(inner)
        self.log_scale = nn.Parameter(torch.zeros(LATENT))
        self.kept: dict[str, Tensor] = {}

    def forward(self, x: Tensor) -> DiagonalNormal:
        scale = self.log_scale.exp()
        if not self.training:
            scale = self.kept.setdefault("scale", scale.detach())
        return self.inner(x)._replace(scale=scale.expand(len(x), -1))


class KeptForABatch(Kept):
    """The same, made anew for each batch."""

    def forward(self, x: Tensor) -> DiagonalNormal:
        self.kept.clear()
        return super().forward(x)


class Shifted(DiagonalNormal):
    """Its expectation forgets a shift."""

    unshifted: Tensor

    def expectation(self, num_samples: int) -> Tensor:
        return self.unshifted


class ShiftedPosterior(Around):
    """The shift is zero at first."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__(inner)
        self.shift = nn.Parameter(torch.zeros(LATENT))

    def forward(self, x: Tensor) -> DiagonalNormal:
        q = self.inner(x)
        found = Shifted(q.mean + 30 * self.shift, q.scale)
        found.unshifted = q.mean
        return found


def with_posterior(kind: Callable[[nn.Module], nn.Module]) -> LatentVariableModel:
    model = hierarchical()
    model.posterior = kind(model.posterior)
    return model


def with_likelihood(kind: Callable[[nn.Module], nn.Module]) -> LatentVariableModel:
    model = hierarchical()
    model.likelihood = kind(model.likelihood)
    return model


class Tempered(LatentVariableModel):
    """Its joint has a temperature that begins at one."""

    def __init__(self) -> None:
        inner = hierarchical()
        super().__init__(inner.prior, inner.likelihood, inner.posterior, [LATENT])
        self.log_temperature = nn.Parameter(torch.zeros(()))

    def log_joint(self, x: Tensor, z: Tensor) -> Tensor:
        return super().log_joint(x, z) * self.log_temperature.exp()


def wrong_order() -> LatentVariableModel:
    model = models.hierarchical(PIXELS, [5, 3], [[8], [6]], "tanh", torch.full((PIXELS,), 0.3))
    model.latent_sizes = [3, 5]
    return model


WRONG = {
    "images, by the posterior": (lambda: with_posterior(Upper), "Upper changes the images in place"),
    "images, by a density": (
        lambda: with_likelihood(DarkerLikelihood),
        "DarkerLikelihood changes the images in place",
    ),
    "kept": (lambda: with_posterior(Kept), r"model\.posterior\.kept keeps what earlier parameters gave"),
    "expectation": (lambda: with_posterior(ShiftedPosterior), "expectation is not the mean of the z"),
    "temperature": (Tempered, "log_joint, which is trained, and .* differ"),
    "order": (wrong_order, r"latent_sizes=\[3, 5\] must be those .* from the data up, \[5, 3\]"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_model_that_would_be_scored_wrongly_later_is_refused_at_once(case: str) -> None:
    make, line = WRONG[case]
    with pytest.raises(UserError, match=line) as caught:
        tried(make(), ELBO(2))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [OfUpper, KeptForABatch])
def test_the_same_without_the_fault_is_taken(kind: type[Around]) -> None:
    tried(with_posterior(kind), ELBO(2))


class PowerMean(Weighted):
    """1/p log (1/k) sum_i w_i^p."""

    power = 0.1

    def bounds(self, log_w: Tensor) -> dict[str, Tensor]:
        return {"power": (self.power * log_w).exp().mean(0).log() / self.power}

    def weights(self, log_w: Tensor) -> Weights:
        """Those of the IWAE."""
        return Weights(log_w.softmax(0), log_w.softmax(0))


class RightPowerMean(PowerMean):
    def weights(self, log_w: Tensor) -> Weights:
        normalised = (self.power * log_w).softmax(0)
        return Weights(normalised, normalised)


def test_weights_are_the_derivative_of_the_bound() -> None:
    tried(hierarchical(), RightPowerMean(6, 2))
    with pytest.raises(UserError, match=r"PowerMean: weights are not the derivative of the bound 'power'"):
        tried(hierarchical(), PowerMean(6, 2))


class WarmUp(ELBO):
    """It counts its steps for all runs of a process."""

    steps = 0

    def forward(self, model: LatentVariableModel, x: Tensor) -> Estimate:
        type(self).steps += 1
        found = super().forward(model, x)
        return found._replace(surrogate=found.surrogate * min(1.0, self.steps / 100))


CALLS = 0


class Global(ELBO):
    def forward(self, model: LatentVariableModel, x: Tensor) -> Estimate:
        global CALLS
        CALLS += 1
        return super().forward(model, x)


@pytest.mark.parametrize(("objective", "name"), [(WarmUp, "WarmUp.steps"), (Global, "CALLS")])
def test_a_number_that_runs_share_is_named(objective: type[Objective], name: str) -> None:
    (found,) = tried(hierarchical(), objective(1))
    assert found == f"{__name__}.{name} (which all runs of a process share)"
