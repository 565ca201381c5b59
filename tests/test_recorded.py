"""A step is the same compiled, and recorded and replayed as a GPU does with a captured graph."""

import itertools
from collections.abc import Callable

import pytest
import torch
from objective_cases import CASES, NEEDS_COMPILER, SEEDS, WEIGHTED, X, assert_same, batch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from evidence.captured import Repeat
from evidence.compiling import compiled
from evidence.data import Batches
from evidence.parts import Parts
from evidence.stack import Member, Stack
from evidence.stack import train as stack_train
from evidence.training import Segment, gradients, parameter_groups, train

pytestmark = pytest.mark.usefixtures("float64")

STEPS, RATE = 40, 1e-2
SCHEDULE = [Segment(STEPS, RATE)]


def made(case: str) -> Parts:
    torch.manual_seed(5)
    model, objective = CASES[case]()
    optimizer = torch.optim.Adam(parameter_groups(model, objective, 1.0), lr=RATE)  # type: ignore[arg-type]
    return Parts(None, None, model, objective, optimizer, SCHEDULE)  # type: ignore[arg-type]


def alone(
    parts: Parts, seed: int, batches: object, differentiate: Callable[..., object] = gradients
) -> Parts:
    """After STEPS steps of the loop."""
    pair = parts.model, parts.objective
    list(train(*pair, parts.optimizer, batches, SCHEDULE, "mean", STEPS, 0, differentiate, seed))  # type: ignore[arg-type]
    return parts


def state(parts: Parts) -> dict[str, Tensor]:
    return {**parts.model.state_dict(), **{f"o.{n}": v for n, v in parts.objective.state_dict().items()}}


class Recorded(Repeat):
    """Takes the first step while it is recorded, and the others by replaying the recording."""

    def __init__(self, step: Callable[[], None]) -> None:
        super().__init__(step)
        self.graph: torch.fx.GraphModule | None = None

    def __call__(self, count: int) -> None:
        for _ in range(count):
            if self.graph is None:
                self.graph = make_fx(lambda _: self._step())(torch.empty(0))
            else:
                with torch.no_grad():  # the gradient is in the recording
                    self.graph(torch.empty(0))


@pytest.mark.parametrize(
    ("case", "number"), [*((case, 2) for case in CASES), ("iwae", 1), ("critic, path", 1)]
)
def test_a_recorded_step_replayed_ends_as_the_loop_and_writes_in_place(case: str, number: int) -> None:
    """What a captured graph does: no Python state, no number read back, every tensor where it was."""
    members, seeds = [made(case) for _ in range(number)], SEEDS[:number]
    images = torch.arange(60 * X, dtype=torch.uint8).view(60, X) % 5
    own = [Batches(images, 4, 6, seed) for seed in seeds]
    recordings: list[Recorded] = []

    def recorded(step: Callable[[], None]) -> Recorded:
        recordings.append(Recorded(step))
        return recordings[0]

    stack = Stack(
        [Member(*each) for each in zip(members, seeds, own, strict=True)], "mean", 0, False, recorded
    )
    pointers = [{name: value.data_ptr() for name, value in state(each).items()} for each in members]
    for _ in stack_train(stack, [SCHEDULE] * number, 15):
        pass
    nodes = recordings[0].graph.graph.nodes  # type: ignore[union-attr]
    assert not [node for node in nodes if "local_scalar" in str(node.target)]
    assert pointers == [{name: value.data_ptr() for name, value in state(each).items()} for each in members]
    for parts, seed, batches in zip(members, seeds, own, strict=True):
        assert_same(state(parts), state(alone(made(case), seed, batches.after(0))))


# UIVI is not compiled as one graph. Of those that weigh samples, each kind of derivative.
OTHERS = {name.partition(",")[0] for name in ("uivi", *WEIGHTED)}
COMPILED = [case for case in CASES if case.partition(",")[0] not in OTHERS]
COMPILED += ["dreg, few samples", "dreg, two layers", "rws, sleep", "piwae", "ciwae", "tvo"]


@NEEDS_COMPILER
@pytest.mark.parametrize("case", COMPILED)
def test_compiled_steps_end_as_the_loop(case: str) -> None:
    found, expected = (
        alone(made(case), SEEDS[1], itertools.repeat(batch()), differentiate)
        for differentiate in (compiled(gradients), gradients)
    )
    assert_same(state(found), state(expected))
