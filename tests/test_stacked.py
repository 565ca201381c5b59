"""A run is the same alone, stacked with others by torch.vmap, compiled, and replayed from a recorded step."""

import itertools
import shutil
from collections.abc import Callable

import pytest
import torch
from objective_cases import CASES, SEEDS, assert_same, batch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from evidence.streams import TRAINING, Stream, drawing
from evidence.training import Segment, compiled, gradients, parameter_groups, train

pytestmark = pytest.mark.usefixtures("float64")

STEPS, RATE = 40, 1e-2


def made(case: str) -> torch.nn.ModuleDict:
    torch.manual_seed(5)
    model, objective = CASES[case]()
    return torch.nn.ModuleDict({"model": model, "objective": objective})


def alone(case: str, seed: int, differentiate: Callable[..., object] = gradients) -> dict[str, Tensor]:
    """The state after STEPS steps of the loop, by gradient descent."""
    modules = made(case)
    groups = parameter_groups(modules["model"], modules["objective"], 1.0)  # type: ignore[arg-type]
    optimizer = torch.optim.SGD(groups, lr=RATE)  # type: ignore[arg-type]
    batches = itertools.repeat(batch())
    schedule = [Segment(STEPS, RATE)]
    pair = modules["model"], modules["objective"]
    list(train(*pair, optimizer, batches, schedule, "mean", STEPS, 0, differentiate, seed))  # type: ignore[arg-type]
    return modules.state_dict()


class Step(torch.nn.Module):
    """The value of one step, [B], as a function of the state."""

    def __init__(self, modules: torch.nn.ModuleDict) -> None:
        super().__init__()
        self.inner = modules

    def forward(self, x: Tensor, seed: Tensor, step: Tensor) -> Tensor:
        with drawing(Stream(seed, TRAINING, step)):
            return self.inner["objective"](self.inner["model"], x).surrogate


def moved(step: Step, x: Tensor, seed: Tensor, number: Tensor) -> None:
    """Take one step of gradient descent in place."""
    parameters = list(step.parameters())
    found = torch.autograd.grad(-step(x, seed, number).mean(), parameters, allow_unused=True)
    with torch.no_grad():
        for parameter, gradient in zip(parameters, found, strict=True):
            if gradient is not None:
                parameter.sub_(RATE * gradient)


@pytest.mark.parametrize("case", CASES)
def test_stacked_runs_end_as_each_does_alone(case: str) -> None:
    step, seeds, x = Step(made(case)), torch.tensor(SEEDS), batch()
    state = {name: torch.stack([value] * len(SEEDS)) for name, value in step.state_dict().items()}
    parameters = {name: state[name].requires_grad_() for name, _ in step.named_parameters()}

    def value(state: dict[str, Tensor], seed: Tensor, number: Tensor) -> Tensor:
        return torch.func.functional_call(step, state, (x, seed, number)).mean()

    for number in range(STEPS):
        values = torch.vmap(value, (0, 0, None))(state, seeds, torch.tensor(number))
        found = torch.autograd.grad(-values.sum(), [*parameters.values()], allow_unused=True)
        with torch.no_grad():
            for parameter, gradient in zip(parameters.values(), found, strict=True):
                if gradient is not None:
                    parameter.sub_(RATE * gradient)
    for row, seed in enumerate(SEEDS):
        ours = {name.removeprefix("inner."): value[row].detach() for name, value in state.items()}
        assert_same(ours, alone(case, seed))


@pytest.mark.parametrize("case", CASES)
def test_a_recorded_step_replayed_ends_as_the_loop_and_writes_in_place(case: str) -> None:
    """What a captured graph on a GPU does: no Python state, no number read back, every tensor where it was."""
    step, seed, number = Step(made(case)), torch.tensor(SEEDS[1]), torch.tensor(0)
    pointers = {name: value.data_ptr() for name, value in step.state_dict().items()}
    before = {name: value.clone() for name, value in step.state_dict().items()}

    def taken(x: Tensor) -> Tensor:
        moved(step, x, seed, number)
        return number.add_(1)

    graph = make_fx(taken)(batch())
    assert not [node for node in graph.graph.nodes if "local_scalar" in str(node.target)]
    with torch.no_grad():
        for name, value in step.state_dict().items():
            value.copy_(before[name])
        number.zero_()
        for _ in range(STEPS):
            graph(batch())
    assert {name: value.data_ptr() for name, value in step.state_dict().items()} == pointers
    assert_same({n.removeprefix("inner."): v for n, v in step.state_dict().items()}, alone(case, SEEDS[1]))


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs g++")
@pytest.mark.parametrize(
    "case", [case for case in CASES if case != "uivi"]
)  # which is not compiled as one graph
def test_compiled_steps_end_as_the_loop(case: str) -> None:
    assert_same(alone(case, SEEDS[1], compiled(gradients)), alone(case, SEEDS[1]))
