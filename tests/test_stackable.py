"""What is refused in a stack, by name: what draws by itself, keeps state elsewhere, or differs."""

import copy
import threading

import numpy as np
import pytest
import torch
from objective_cases import SEEDS
from test_stack import assert_as_alone, made, stacked
from torch import Tensor, nn

from evidence.models import LatentVariableModel
from evidence.objectives import ELBO, Estimate
from evidence.parts import Parts
from evidence.stackable import CannotStack, why_not

pytestmark = pytest.mark.usefixtures("float64")


class Own(ELBO):
    pass


class Declared(ELBO):
    is_stackable = True


class Drawing(Declared):
    is_stackable = True

    def forward(self, model: LatentVariableModel, x: Tensor) -> Estimate:
        estimate = super().forward(model, x)
        return estimate._replace(surrogate=estimate.surrogate + torch.randn(len(x)))


def test_what_is_not_known_to_stack_is_not_stacked() -> None:
    parts = made("iwae, two layers")
    assert not why_not(parts)
    assert not why_not(parts._replace(objective=Declared(1)))
    assert "Own does not say is_stackable = True" in why_not(parts._replace(objective=Own(1)))
    assert "Adam" in why_not(parts._replace(optimizer=torch.optim.LBFGS(parts.model.parameters())))
    parts.model.posterior.layer = torch.nn.Dropout(0.5)
    assert "Dropout draws" in why_not(parts)


def test_a_module_of_torch_that_draws_is_refused_by_itself_too() -> None:
    parts = made("iwae")
    parts.model.likelihood = nn.Sequential(nn.RReLU(), parts.model.likelihood)
    with pytest.raises(CannotStack, match="draws from torch's own generator"):
        stacked([parts], SEEDS[:1])


@pytest.mark.parametrize("state", [np.arange(3.0), [torch.ones(2), torch.ones(3)]], ids=["array", "list"])
def test_any_attribute_of_a_module_can_be_compared(state: object) -> None:
    def members() -> list[Parts]:
        found = [made("iwae") for _ in range(2)]
        for parts in found:
            parts.objective.state = state
        return found

    singles, together = members(), members()
    assert_as_alone(together, stacked(together, SEEDS[:2]), singles)
    other = members()
    other[0].objective.state = None
    with pytest.raises(CannotStack, match=r"^IWAE\.state differs between the runs$"):
        stacked(other, SEEDS[:2])


def test_what_cannot_be_copied_is_not_stacked() -> None:
    members = [made("iwae") for _ in range(2)]
    members[0].objective.state = members[1].objective.state = threading.Lock()
    with pytest.raises(CannotStack, match=r"^a copy cannot be made \("):
        stacked(members, SEEDS[:2])


class Remembering(Declared):
    """Whose state is not written in place, each way."""

    def __init__(self, how: str) -> None:
        super().__init__(1)
        self.how, self.count, self.plain = how, 0, torch.zeros(())
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, model: LatentVariableModel, x: Tensor) -> Estimate:
        estimate = super().forward(model, x)
        value = estimate.metrics["elbo"].detach()
        if self.how == "buffer":
            self.mean = 0.9 * self.mean + value
        elif self.how == "tensor":
            self.plain = 0.9 * self.plain + value
        else:
            self.count += 1
        return estimate


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("buffer", r"assigns the buffer objective\.mean anew"),
        ("tensor", r"changes objective\.plain, which is no buffer"),
        ("number", r"changes objective\.count, which is no buffer"),
    ],
)
@pytest.mark.parametrize("number", [1, 2])
def test_state_that_is_not_written_in_place_is_not_stacked(how: str, why: str, number: int) -> None:
    members = [made("vae")._replace(objective=Remembering(how)) for _ in range(number)]
    with pytest.raises(CannotStack, match=why):
        stacked(members, SEEDS[:number])


def test_objects_of_the_same_words_are_compared_by_what_they_hold() -> None:
    members = [made("vae")._replace(objective=Declared(1)) for _ in range(2)]
    for parts, scale in zip(members, (0.1, 3.0), strict=True):
        parts.objective.prior = torch.distributions.Normal(torch.zeros(3), torch.full((3,), scale))
    with pytest.raises(CannotStack, match=r"^Declared\.prior differs between the runs$"):
        stacked(members, SEEDS[:2])
    members[1].objective.prior = copy.deepcopy(members[0].objective.prior)
    members[0].objective.prior.itself = members[0].objective.prior
    members[1].objective.prior.itself = members[1].objective.prior
    stacked(members, SEEDS[:2])


def test_a_users_own_draws_are_refused_by_name() -> None:
    members = [made("vae")._replace(objective=Drawing(1)) for _ in SEEDS]
    with pytest.raises(CannotStack, match=r"evidence\.streams\.normal"):
        stacked(members, SEEDS)
