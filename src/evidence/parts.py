"""What a training is made of: how it starts from its seed, and is put back where it was."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from evidence import streams, training
from evidence.data import Dataset, mean_pixels
from evidence.models import LatentVariableModel
from evidence.objectives import Objective
from evidence.streams import seeded_others


class Stateful(Protocol):
    """A module or an optimiser."""

    def state_dict(self) -> dict[str, Any]:
        """Everything it would lose."""

    def load_state_dict(self, state_dict: dict[str, Any], /) -> Any:
        """Take it back."""


class Parts(NamedTuple):
    """The data set, all that training changes, and the schedule of its learning rate.

    mean_pixels: those of the training images [X], on the CPU, as the model was given them.
    """

    dataset: Dataset
    mean_pixels: Tensor
    model: LatentVariableModel
    objective: Objective
    optimizer: torch.optim.Optimizer
    schedule: list[training.Segment]

    @property
    def stateful(self) -> dict[str, Stateful]:
        """Everything that training changes."""
        return {"model": self.model, "objective": self.objective, "optimizer": self.optimizer}

    @property
    def last_step(self) -> int:
        """The number of steps in all."""
        return self.schedule[-1].last_step

    @property
    def stage_ends(self) -> list[int]:
        """Step 0, and the last step of each learning rate."""
        return [0, *(segment.last_step for segment in self.schedule)]


def start(
    dataset: Dataset,
    make_model: Callable[[Tensor], LatentVariableModel],
    make_objective: Callable[[], Objective],
    make_optimizer: Callable[[list[dict[str, object]]], torch.optim.Optimizer],
    make_schedule: Callable[[], list[training.Segment]],
    scale_rate: float,
    seed: int,
    device: torch.device,
) -> Parts:
    """The parts before the first step; the seed fixes the parameters.

    `make_model` is given the mean pixels [X], `make_optimizer` the groups of training.parameter_groups.
    """
    streams.seed_globally(torch.device("cpu"), seed)  # where modules are made
    means = mean_pixels(dataset)
    with seeded_others(seed):
        model = make_model(means.clone()).to(device)
        objective = make_objective().to(device)
    optimizer = make_optimizer(training.parameter_groups(model, objective, scale_rate))
    return Parts(dataset, means, model, objective, optimizer, make_schedule())


def capture(stateful: Mapping[str, Stateful]) -> dict[str, Any]:
    """The parts' states: with the number of the step, all that the next one depends on.

    A tensor that is a part of a larger one, as a stacked run's are, is copied: torch.save writes the whole memory.
    """
    return {name: _owned(part.state_dict()) for name, part in stateful.items()}


def restore(state: Mapping[str, Any], stateful: Mapping[str, Stateful]) -> None:
    """Put the parts back where `capture` saw them."""
    for name, part in stateful.items():
        part.load_state_dict(state[name])


def _owned(value: Any) -> Any:
    if isinstance(value, dict):
        return type(value)((key, _owned(each)) for key, each in value.items())
    if isinstance(value, Tensor) and value.layout == torch.strided:
        is_part = value.untyped_storage().nbytes() > value.numel() * value.element_size()
        return value.clone() if is_part else value
    return value
