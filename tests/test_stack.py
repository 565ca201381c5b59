"""Runs stacked into one batched step: each ends as it does alone, whatever becomes of the others."""

import math

import pytest
import torch
from equality import assert_equal
from objective_cases import CASES, NEEDS_COMPILER, SEEDS, X, assert_same

from evidence import models
from evidence import parts as assembled
from evidence.compiling import fused_step
from evidence.data import Batches
from evidence.errors import UserError
from evidence.objectives import TVO
from evidence.parts import Parts
from evidence.stack import Member, Stack
from evidence.stack import train as stack_train
from evidence.stacked_optimizer import StackedOptimizer
from evidence.training import Report, Segment, parameter_groups, train

pytestmark = pytest.mark.usefixtures("float64")


def made(
    case: str,
    kind: type[torch.optim.Optimizer] = torch.optim.Adam,
    learning_rate: float = 1e-2,
    **options: float,
) -> Parts:
    torch.manual_seed(5)
    model, objective = CASES[case]()
    groups = parameter_groups(model, objective, 0.2)
    schedule = [Segment(10, learning_rate), Segment(40, learning_rate / 2)]
    return Parts(None, None, model, objective, kind(groups, lr=1.0, **options), schedule)  # type: ignore[arg-type, call-arg]


def batches(seed: int) -> Batches:
    """A run's own, of grey images, so that their binarization is drawn too."""
    images = torch.arange(13 * X, dtype=torch.uint8).view(13, X) % 5
    return Batches(images, 4, 6, seed)


def alone(parts: Parts, seed: int, first_step: int = 0) -> list[Report]:
    pair = parts.model, parts.objective
    stream = batches(seed).after(first_step)
    return list(train(*pair, parts.optimizer, stream, parts.schedule, "sum", 5, first_step, seed=seed))


def stacked(
    members: list[Parts], seeds: list[int], first_step: int = 0, last_step: int = 40, compiled: bool = False
) -> list[list[Report | UserError]]:
    """The reports of each member."""
    together = [Member(parts, seed, batches(seed)) for parts, seed in zip(members, seeds, strict=True)]
    schedules = [[each for each in parts.schedule if each.last_step <= last_step] for parts in members]
    stack = Stack(together, "sum", first_step, compiled)
    found = [each for each in stack_train(stack, schedules, 5) if each is not None]
    return [list(each) for each in zip(*found, strict=True)]


def assert_same_optimizers(parts: Parts, single: Parts) -> None:
    ours, theirs = parts.optimizer.state_dict(), single.optimizer.state_dict()
    assert ours["param_groups"] == theirs["param_groups"]
    assert ours["state"].keys() == theirs["state"].keys()
    for number, state in theirs["state"].items():
        assert_same(state, ours["state"][number])


def assert_as_alone(
    members: list[Parts], reports: list[list[Report | UserError]], singles: list[Parts]
) -> None:
    """The members and their reports are those of the singles, trained alone."""
    for parts, found, seed, single in zip(members, reports, SEEDS[: len(members)], singles, strict=True):
        for ours, expected in zip(found, alone(single, seed), strict=True):
            assert isinstance(ours, Report)
            assert ours.step == expected.step
            assert ours.ends_segment == expected.ends_segment
            assert ours.metrics == pytest.approx(expected.metrics, abs=1e-9)
        for one, other in ((parts.model, single.model), (parts.objective, single.objective)):
            assert_same(one.state_dict(), other.state_dict())
        assert_same_optimizers(parts, single)


@pytest.mark.parametrize("case", CASES)
def test_each_ends_as_it_does_alone(case: str) -> None:
    members, singles = ([made(case) for _ in SEEDS] for _ in range(2))
    assert_as_alone(members, stacked(members, SEEDS), singles)


def differing(case: str, attribute: str) -> list[Parts]:
    """Runs that differ in learning rates, in Adam's constants, and in a float of the objective."""
    found = []
    for number in range(len(SEEDS)):
        parts = made(case, learning_rate=1e-2 * (1 + number))
        for group in parts.optimizer.param_groups:
            group["eps"], group["betas"] = 10.0 ** (-4 - number), (0.9 - 0.1 * number, 0.999 - 0.01 * number)
            group["weight_decay"] = 0.1 * number
        owner, _, name = f"objective.{attribute}".rpartition(".")
        module = torch.nn.ModuleDict({"objective": parts.objective}).get_submodule(owner)
        setattr(module, name, getattr(module, name) * (1 + 0.1 * number))
        found.append(parts)
    return found


@pytest.mark.parametrize(
    ("case", "attribute"),
    [
        ("critic, path", "bound"),
        ("uivi", "reverse_conditional.adaptation_rate"),
        ("uivi", "reverse_conditional.target_acceptance"),
        ("ciwae", "beta"),
        ("vr_iwae", "alpha"),
        ("vr_iwae, doubly", "alpha"),
    ],
)
def test_runs_that_differ_in_floats_are_stacked(case: str, attribute: str) -> None:
    members, singles = differing(case, attribute), differing(case, attribute)
    assert_as_alone(members, stacked(members, SEEDS), singles)
    owner, _, name = attribute.rpartition(".")
    kept = [getattr(each.objective.get_submodule(owner), name) for each in members]
    assert all(type(value) is float for value in kept)
    assert len(set(kept)) == 3


def test_runs_that_differ_in_a_buffer_are_stacked() -> None:
    """TVO's inverse temperatures, which its float `first` becomes."""

    def made_from(first: float) -> Parts:
        parts = made("tvo")
        return parts._replace(objective=TVO(4, 3, first))

    members, singles = ([made_from(first) for first in (0.05, 0.1, 0.3)] for _ in range(2))
    assert_as_alone(members, stacked(members, SEEDS), singles)


OTHERS: dict[type[torch.optim.Optimizer], dict[str, float]] = {
    torch.optim.AdamW: {"weight_decay": 0.5},
    torch.optim.RMSprop: {"alpha": 0.9, "eps": 1.0, "weight_decay": 0.2},
}


@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize("kind", OTHERS)
def test_with_another_optimizer(kind: type[torch.optim.Optimizer], number: int) -> None:
    members, singles = ([made("iwae", kind, **OTHERS[kind]) for _ in SEEDS[:number]] for _ in range(2))
    assert_as_alone(members, stacked(members, SEEDS[:number]), singles)


@NEEDS_COMPILER
@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize("kind", OTHERS)
def test_another_optimizer_compiled(kind: type[torch.optim.Optimizer], number: int) -> None:
    """By itself, along any gradients: test_compiled_too has whole steps, with Adam."""
    members, singles = ([made("iwae", kind, **OTHERS[kind]) for _ in SEEDS[:number]] for _ in range(2))
    parameters = [
        {
            name: each
            for group in single.optimizer.param_groups
            for name, each in zip(group["param_names"], group["params"], strict=True)
        }
        for single in singles
    ]
    optimizer = StackedOptimizer([each.optimizer for each in members], [*parameters[0]])
    optimizer.set_rates([1e-2] * number)
    count, update = fused_step(optimizer.count), fused_step(optimizer.update)
    for single in singles:
        for group in single.optimizer.param_groups:
            group["lr"] = 1e-2 * group["rate"]
    for _ in range(10):
        gradients = {name: torch.randn(number, *each.shape) for name, each in parameters[0].items()}
        count()
        update(gradients)
        for row, single in enumerate(singles):
            for name, parameter in parameters[row].items():
                parameter.grad = gradients[name][row]
            single.optimizer.step()
    optimizer.share()
    for row, (ours, single) in enumerate(zip(members, singles, strict=True)):
        found = {name: stack[row] for name, stack in optimizer.parameters().items()}
        assert_same(found, parameters[row])
        assert_same_optimizers(ours, single)


def test_uivi_by_rmsprop_with_constants_of_each_run() -> None:
    def runs() -> list[Parts]:
        return [
            made("uivi", torch.optim.RMSprop, alpha=0.9 - 0.2 * n, eps=1.0 + n) for n in range(len(SEEDS))
        ]

    members, singles = runs(), runs()
    assert_as_alone(members, stacked(members, SEEDS), singles)


@NEEDS_COMPILER
@pytest.mark.parametrize("case", ["iwae, two layers", "dreg"])
def test_samples_in_pieces_are_computed_again_with_the_present_parameters(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = made(case)
    expected = alone(whole, SEEDS[0])
    monkeypatch.setattr(models, "ROWS_KEPT", 1)
    monkeypatch.setattr(models, "ROWS_PER_PIECE", 8)
    parts = made(case)
    (found,) = stacked([parts], [SEEDS[0]])
    assert [each.metrics for each in found if isinstance(each, Report)] == [
        pytest.approx(each.metrics, abs=1e-9) for each in expected
    ]
    assert_same(parts.model.state_dict(), whole.model.state_dict())


SOME = ("iwae, two layers", "critic, path", "dreg, few samples", "piwae", "stl")
ALL_COMPILED = [case for case in CASES if CASES[case]()[1].is_compilable]


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=() if case in SOME else pytest.mark.slow) for case in ALL_COMPILED]
)
def test_compiled_too(case: str) -> None:
    """torch.compile forgets the gradient of an autograd.Function inside torch.vmap, so each kind of step is here."""
    members, singles = ([made(case) for _ in SEEDS] for _ in range(2))
    assert_as_alone(members, stacked(members, SEEDS, compiled=True), singles)


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.RMSprop])
def test_a_member_goes_on_from_its_state_in_other_company(kind: type[torch.optim.Optimizer]) -> None:
    members = [made("critic, elbo", kind) for _ in SEEDS]
    stacked(members, SEEDS, last_step=10)
    states = [assembled.capture(parts.stateful) for parts in members]
    again = [made("critic, elbo", kind) for _ in SEEDS]
    for parts, state in zip(again, states, strict=True):
        assembled.restore(state, parts.stateful)
    stacked(again[1:], SEEDS[1:], first_step=10)
    alone(again[0], SEEDS[0], first_step=10)
    for parts, seed in zip(again, SEEDS, strict=True):
        single = made("critic, elbo", kind)
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
