"""What changes while training goes on, beside what the optimiser changes: state, frozen parts, rates, shapes."""

import threading

import numpy as np
import problems
import pytest
import torch
from own_models import tried, with_layer
from torch import Tensor, nn

from evidence import training
from evidence.errors import UserError
from evidence.models import LatentVariableModel
from evidence.objectives import ELBO, Estimate
from evidence.training import Segment, parameter_groups, train
from evidence.trial import first_step as trial


class Drifting(ELBO):
    """Its surrogate depends on state of some kind, which is of no number."""

    def __init__(self, kind: str) -> None:
        super().__init__(1)
        self.kind, self.state = kind, {"tensor": torch.zeros(()), "list": [0], "cache": None}

    def forward(self, model: LatentVariableModel, x: Tensor) -> Estimate:
        estimate = super().forward(model, x)
        self.state = {"tensor": self.state["tensor"] + 1, "list": [*self.state["list"], 1], "cache": x}
        drift = {"tensor": self.state["tensor"], "list": len(self.state["list"]), "cache": 0.0}[self.kind]
        return estimate._replace(surrogate=estimate.surrogate + drift)


@pytest.mark.parametrize(("kind", "found"), [("tensor", 1), ("list", 1), ("cache", 0)])
def test_state_that_changes_the_next_step_is_found_and_a_cache_is_none(kind: str, found: int) -> None:
    assert tried(problems.linear_gaussian(), Drifting(kind)) == ["objective.state"] * found


class WarmUp(ELBO):
    """A weight of the surrogate rises a little with each step, in an attribute of this name."""

    def __init__(self, name: str, rate: float) -> None:
        super().__init__(1)
        self.name, self.rate = name, rate
        setattr(self, name, torch.zeros(()))

    def forward(self, model: LatentVariableModel, x: Tensor) -> Estimate:
        estimate, weight = super().forward(model, x), getattr(self, self.name)
        setattr(self, self.name, weight + self.rate)
        return estimate._replace(surrogate=estimate.surrogate * (1 + weight))


@pytest.mark.parametrize("name", ["weight", "_weight", "__weight"])
@pytest.mark.parametrize("rate", [0.05, 1e-6])
def test_small_and_private_state_is_found(name: str, rate: float) -> None:
    assert tried(problems.linear_gaussian(), WarmUp(name, rate)) == [f"objective.{name}"]


class Baseline(ELBO):
    """A score's baseline is a moving average. It changes the gradient, and no value."""

    def __init__(self, kind: str) -> None:
        super().__init__(1)
        self.kind, self.mean = kind, {"array": np.zeros(3000), "tensor": torch.zeros(1)}[kind]

    def forward(self, model: LatentVariableModel, x: Tensor) -> Estimate:
        q = model.posterior(x)
        z = q.sample(1)
        log_q, bound = q.log_prob(z), model.log_joint(x, z)
        score = (log_q - log_q.detach()) * (bound.detach() - float(self.mean[-1]))
        self.mean = 0.9 * self.mean
        self.mean[-1] += 0.1 * float(bound.detach().mean())
        return Estimate((bound - bound.detach() + score).mean(0), {"bound": bound.mean().detach()})


@pytest.mark.parametrize("kind", ["array", "tensor"])
def test_state_that_changes_the_gradient_alone_is_found(kind: str) -> None:
    assert tried(problems.linear_gaussian(), Baseline(kind)) == ["objective.mean"]


@pytest.mark.parametrize("where", ["likelihood", "posterior"])
def test_a_buffer_that_a_step_makes_is_refused(where: str) -> None:
    model = with_layer(problems.linear_gaussian(), where, "made at first")
    with pytest.raises(UserError, match=rf"^model\.{where}\.layer\.zeros: a step makes or removes it"):
        tried(model, ELBO(1))


class Extra(ELBO):
    def get_extra_state(self) -> object:
        return {"written": threading.Thread}

    def set_extra_state(self, state: object) -> None: ...


def test_extra_state_that_no_checkpoint_can_hold_is_refused() -> None:
    with pytest.raises(UserError, match=r"^objective: get_extra_state gives what a checkpoint cannot hold"):
        tried(problems.linear_gaussian(), Extra(1))


class Enlarging(ELBO):
    def forward(self, model: LatentVariableModel, x: Tensor) -> Estimate:
        log_w = model.log_weights(x.repeat_interleave(20, 0), 50)
        return Estimate(log_w.mean(0).view(len(x), 20).mean(1), {"elbo": log_w.detach().mean()})


def test_rows_in_pieces_are_those_that_the_objective_makes(monkeypatch: pytest.MonkeyPatch) -> None:
    model = with_layer(problems.linear_gaussian(), "likelihood", "dropout")
    rows = 20 * 50 * trial.IMAGES
    monkeypatch.setattr(trial, "ROWS_KEPT", rows)
    tried(model, Enlarging(1))
    monkeypatch.setattr(trial, "ROWS_KEPT", rows - 1)
    with pytest.raises(UserError, match=rf"the {rows:,} samples of a step are computed in pieces"):
        tried(model, Enlarging(1))


class Unfreezing(ELBO):
    """Trains the likelihood from the third step on."""

    def forward(self, model: LatentVariableModel, x: Tensor) -> Estimate:
        self.steps = getattr(self, "steps", 0) + 1
        model.likelihood.requires_grad_(self.steps > 2)
        return super().forward(model, x)


def ascend(objective: ELBO, schedule: list[Segment], first_step: int = 0) -> LatentVariableModel:
    model = problems.linear_gaussian()
    optimizer = torch.optim.SGD(parameter_groups(model, objective, 1.0), lr=0.1)
    batches = iter([problems.images(4)] * 10)
    list(train(model, objective, optimizer, batches, schedule, "sum", 1, first_step))
    return model


def test_a_part_that_is_unfrozen_while_training_goes_on_is_trained_from_then_on() -> None:
    def moved(steps: int) -> bool:
        before = dict(problems.linear_gaussian().likelihood.named_parameters())
        model = ascend(Unfreezing(1), [Segment(steps, 1e-3)])
        return any(
            not torch.equal(value, before[name]) for name, value in model.likelihood.named_parameters()
        )

    assert [moved(steps) for steps in (2, 3)] == [False, True]
    assert "objective.steps" in tried(problems.linear_gaussian(), Unfreezing(1))


class Reporting(ELBO):
    """Reports a view of a parameter and of a buffer that a step changes in place."""

    def __init__(self) -> None:
        super().__init__(1)
        self.w = nn.Parameter(torch.tensor(0.0))
        self.register_buffer("count", torch.tensor(0.0))

    def forward(self, model: LatentVariableModel, x: Tensor) -> Estimate:
        estimate = super().forward(model, x)
        self.count += 1
        metrics = {"w": self.w.detach(), "count": self.count}
        return Estimate(estimate.surrogate + self.w, metrics)


@pytest.mark.parametrize(("log_every", "expected"), [(1, [0, 2, 4, 6]), (2, [1, 5])])
def test_a_metric_is_that_of_its_step_though_it_is_a_view(log_every: int, expected: list[float]) -> None:
    objective, model = Reporting(), problems.linear_gaussian()
    optimizer = torch.optim.SGD(parameter_groups(model, objective, 1.0), lr=0.5)
    batches = iter([problems.images(4)] * 4)
    reports = list(train(model, objective, optimizer, batches, [Segment(4, 0.5)], "sum", log_every))
    assert [report.metrics["w"] for report in reports] == expected  # the gradient is 4, a step 2
    counts = {1: [1, 2, 3, 4], 2: [1.5, 3.5]}[log_every]
    assert [report.metrics["count"] for report in reports] == counts


class Shrinking(ELBO):
    def forward(self, model: LatentVariableModel, x: Tensor) -> Estimate:
        estimate = super().forward(model, x)
        return estimate._replace(surrogate=estimate.surrogate.mean())


def test_a_surrogate_of_another_shape_ends_training_at_any_step() -> None:
    with pytest.raises(UserError, match=r"surrogate has shape \[\], and must have \[4\]"):
        ascend(Shrinking(1), [Segment(2, 1e-3)])


def test_a_rate_that_an_optimiser_sets_itself_stays_when_training_is_taken_up_within_a_segment() -> None:
    model, objective = problems.linear_gaussian(), ELBO(1)
    optimizer = torch.optim.SGD(parameter_groups(model, objective, 1.0), lr=0.1)
    rates = []
    for first_step in (0, 1, 2):
        batches = iter([problems.images(4)] * 4)
        reports = train(
            model, objective, optimizer, batches, [Segment(2, 0.1), Segment(4, 0.01)], "sum", 1, first_step
        )
        next(reports)
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.param_groups[0]["lr"] = 0.05
    assert rates == [0.1, 0.05, 0.01]


class Masked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))
        self.register_buffer("mask", torch.tensor([0.0, -torch.inf]))
        self.register_buffer("adjacency", torch.eye(2).to_sparse())


def test_a_mask_and_a_sparse_buffer_are_no_divergence() -> None:
    module = Masked()
    training.check_finite({"model": module}, 3)
    module.mask[0] = torch.nan
    with pytest.raises(UserError, match=r"model\.mask is not finite after step 3"):
        training.check_finite({"model": module}, 3)
    module.mask[0] = 0.0
    with torch.no_grad():
        module.weight[0] = torch.inf
    with pytest.raises(UserError, match=r"model\.weight is not finite after step 3"):
        training.check_finite({"model": module}, 3)
