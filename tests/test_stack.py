"""Runs stacked into one batched step: each ends as it does alone, whatever becomes of the others."""

import itertools
import math
import shutil
from collections.abc import Iterator

import pytest
import torch
from equality import assert_equal
from objective_cases import CASES, SEEDS, assert_same, batch
from torch import Tensor

from evidence import parts as assembled
from evidence.errors import UserError
from evidence.objectives import ELBO
from evidence.parts import Parts
from evidence.stack import Member, Stack, can_stack
from evidence.training import Report, Segment, parameter_groups, train

pytestmark = pytest.mark.usefixtures("float64")

SCHEDULE = [Segment(10, 1e-2), Segment(40, 5e-3)]


def made(case: str, kind: type[torch.optim.Optimizer] = torch.optim.Adam) -> Parts:
    torch.manual_seed(5)
    model, objective = CASES[case]()
    groups = parameter_groups(model, objective, 0.2)
    return Parts(None, model, objective, kind(groups, lr=1.0), SCHEDULE)  # type: ignore[arg-type, call-arg]


def batches(seed: int, first_step: int = 0) -> Iterator[Tensor]:
    """A run's own: a function of its seed and the step."""
    for step in itertools.count(first_step):
        yield batch().roll(step + seed % 7, 0)


def alone(parts: Parts, seed: int, first_step: int = 0) -> list[Report]:
    pair = parts.model, parts.objective
    stream = batches(seed, first_step)
    return list(train(*pair, parts.optimizer, stream, parts.schedule, "sum", 5, first_step, seed=seed))


def stacked(
    members: list[Parts], seeds: list[int], first_step: int = 0, last_step: int = 40, compiled: bool = False
) -> list[list[Report | UserError]]:
    """The reports of each member."""
    together = [
        Member(parts, seed, batches(seed, first_step)) for parts, seed in zip(members, seeds, strict=True)
    ]
    schedule = [segment for segment in SCHEDULE if segment.last_step <= last_step]
    found = Stack(together, "sum", compiled).train(schedule, first_step, 5)
    return [list(each) for each in zip(*found, strict=True)]


def assert_as_alone(members: list[Parts], reports: list[list[Report | UserError]], case: str) -> None:
    for parts, found, seed in zip(members, reports, SEEDS, strict=True):
        single = made(case, type(parts.optimizer))
        for ours, expected in zip(found, alone(single, seed), strict=True):
            assert isinstance(ours, Report)
            assert ours.step == expected.step
            assert ours.ends_segment == expected.ends_segment
            assert ours.metrics == pytest.approx(expected.metrics, abs=1e-9)
        for one, other in ((parts.model, single.model), (parts.objective, single.objective)):
            assert_same(one.state_dict(), other.state_dict())
        ours, theirs = parts.optimizer.state_dict(), single.optimizer.state_dict()
        assert ours["param_groups"] == theirs["param_groups"]
        for number, state in theirs["state"].items():
            assert_same(state, ours["state"][number])


@pytest.mark.parametrize("case", CASES)
def test_each_ends_as_it_does_alone(case: str) -> None:
    members = [made(case) for _ in SEEDS]
    assert_as_alone(members, stacked(members, SEEDS), case)


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.RMSprop, torch.optim.AdamW])
def test_with_any_elementwise_optimiser(kind: type[torch.optim.Optimizer]) -> None:
    members = [made("iwae", kind) for _ in SEEDS]
    assert_as_alone(members, stacked(members, SEEDS), "iwae")


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs g++")
@pytest.mark.parametrize("case", ["iwae, two layers", "critic, path"])
def test_compiled_too(case: str) -> None:
    members = [made(case) for _ in SEEDS]
    assert_as_alone(members, stacked(members, SEEDS, compiled=True), case)


def test_a_member_goes_on_from_its_state_in_other_company() -> None:
    members = [made("critic, elbo") for _ in SEEDS]
    stacked(members, SEEDS, last_step=10)
    states = [assembled.capture(parts.stateful) for parts in members]
    again = [made("critic, elbo") for _ in SEEDS]
    for parts, state in zip(again, states, strict=True):
        assembled.restore(state, parts.stateful)
    stacked(again[1:], SEEDS[1:], first_step=10)
    alone(again[0], SEEDS[0], first_step=10)
    for parts, seed in zip(again, SEEDS, strict=True):
        single = made("critic, elbo")
        alone(single, seed)
        assert_same(parts.model.state_dict(), single.model.state_dict())


def test_one_that_diverges_says_so_and_the_others_do_not_notice() -> None:
    members = [made("iwae") for _ in SEEDS]
    with torch.no_grad():
        next(members[1].model.parameters()).fill_(math.nan)
    _, broken, _ = reports = stacked(members, SEEDS)
    assert all(isinstance(each, UserError) for each in broken)
    assert "iwae is nan in the 5 steps before step 5" in str(broken[0])
    for row in (0, 2):
        single = made("iwae")
        expected = alone(single, SEEDS[row])
        assert [each.metrics for each in reports[row]] == [pytest.approx(each.metrics) for each in expected]
        assert_same(members[row].model.state_dict(), single.model.state_dict())


def test_a_member_that_left_keeps_its_state() -> None:
    members = [made("iwae") for _ in SEEDS]
    stacked(members, SEEDS, last_step=10)
    left = {name: value.clone() for name, value in members[0].model.state_dict().items()}
    stacked(members[1:], SEEDS[1:], first_step=10)
    assert_equal(members[0].model.state_dict(), left)


class Own(ELBO):
    pass


def test_what_is_not_known_to_stack_is_not_stacked() -> None:
    parts = made("iwae, two layers")
    assert can_stack(parts)
    assert not can_stack(parts._replace(objective=Own(1)))
    assert not can_stack(parts._replace(optimizer=torch.optim.LBFGS(parts.model.parameters())))
    parts.model.posterior.layer = torch.nn.Dropout(0.5)
    assert not can_stack(parts)
