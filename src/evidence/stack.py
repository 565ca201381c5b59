"""Runs that differ in their seeds alone, trained by one batched step: each ends as it does alone, to rounding.

The runs' parameters and buffers become rows of stacked tensors, so that a run's own modules always hold its present
state. torch.vmap takes the objective over the rows, and one optimiser moves all of them: element by element it does
what each run's own would do. Noise is a function of the seed and the step, so a run's does not depend on its company.
"""

import copy
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from evidence.errors import UserError
from evidence.models import LatentVariableModel
from evidence.objectives import Objective
from evidence.parts import Parts
from evidence.streams import TRAINING, Stream, drawing
from evidence.training import Report, Segment, added, averages, fused_step, set_gradients

# The optimisers of torch that treat each number of a parameter by itself.
ELEMENTWISE = (
    "Adadelta",
    "Adagrad",
    "Adam",
    "Adamax",
    "AdamW",
    "ASGD",
    "NAdam",
    "RAdam",
    "RMSprop",
    "Rprop",
    "SGD",
)


class Member(NamedTuple):
    """A run of a stack: its parts, its seed, and its batches x [B, X] from the present step on."""

    parts: Parts
    seed: int
    batches: Iterator[Tensor]


class _Value(nn.Module):
    """The surrogate [B] of one step, and its metrics, as a function of the modules' state."""

    def __init__(self, model: LatentVariableModel, objective: Objective) -> None:
        super().__init__()
        self.model, self.objective = model, objective

    def forward(self, x: Tensor, seed: Tensor, step: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        with drawing(Stream(seed, TRAINING, step)):
            surrogate, metrics = self.objective(self.model, x)
        return surrogate, metrics


def can_stack(parts: Parts) -> bool:
    """Whether runs of these parts can be stacked, as far as their classes tell: ours, with an elementwise optimiser."""
    modules = [*parts.model.modules(), *parts.objective.modules()]
    kind = type(parts.optimizer)
    return (
        all(type(module).__module__.startswith(("evidence.", "torch.")) for module in modules)
        and not any(
            isinstance(module, nn.modules.dropout._DropoutNd | nn.modules.batchnorm._BatchNorm)
            for module in modules
        )
        and kind.__module__.startswith("torch.optim.")
        and kind.__name__ in ELEMENTWISE
    )


class Stack:
    """Takes steps of all members at once."""

    def __init__(self, members: Sequence[Member], reduction: Literal["sum", "mean"], compiled: bool) -> None:
        self._members, self._reduction = members, reduction
        first = members[0].parts
        model, objective, self._optimizer = copy.deepcopy((first.model, first.objective, first.optimizer))
        self._value = _Value(model, objective)
        rows = [_Value(each.parts.model, each.parts.objective) for each in members]
        self._state = {
            name: torch.stack([row.get_parameter(name).detach() for row in rows]).requires_grad_(
                parameter.requires_grad
            )
            for name, parameter in self._value.named_parameters()
        }
        self._parameters = list(self._state.values())
        for name, _ in self._value.named_buffers():
            self._state[name] = torch.stack([row.get_buffer(name) for row in rows])
        for number, row in enumerate(rows):
            for name, parameter in row.named_parameters():
                parameter.data = self._state[name].detach()[number]
            for name, _ in list(row.named_buffers()):
                owner, _, leaf = name.rpartition(".")
                row.get_submodule(owner)._buffers[leaf] = self._state[name][number]
        self._stack_optimizer()
        self._seeds = torch.tensor([each.seed for each in members], device=self._parameters[0].device)
        self._taken = fused_step(self._differentiate) if compiled else self._differentiate

    def train(
        self, schedule: Sequence[Segment], first_step: int, log_every: int
    ) -> Iterator[list[Report | UserError]]:
        """Take the schedule's steps after `first_step`; reports or errors of all members as they go.

        After each report the members hold their state.
        """
        step, begins = first_step, 0
        for segment in schedule:
            if step == begins:  # within a segment the optimiser has its rate
                for group in self._optimizer.param_groups:
                    group["lr"] = segment.learning_rate * group["rate"]
            sums: dict[str, Tensor] = {}
            last_report = step
            while step < segment.last_step:
                x = torch.stack([next(each.batches) for each in self._members])
                found, metrics = self._taken(x, torch.tensor(step, device=x.device))
                step += 1
                sums = added(sums, metrics, step)
                set_gradients(self._parameters, found)
                self._optimizer.step()
                if step % log_every == 0 or step == segment.last_step:
                    self._share_optimizer()
                    count, ends = step - last_report, step == segment.last_step
                    yield [_report(sums, row, count, step, ends) for row in range(len(self._members))]
                    sums, last_report = {}, step
            begins = segment.last_step

    def _differentiate(self, x: Tensor, step: Tensor) -> tuple[tuple[Tensor | None, ...], dict[str, Tensor]]:
        def value(state: dict[str, Tensor], x: Tensor, seed: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
            found: tuple[Tensor, dict[str, Tensor]] = torch.func.functional_call(
                self._value, state, (x, seed, step)
            )
            return found

        surrogate, metrics = torch.vmap(value)(self._state, x, self._seeds)
        loss = -surrogate.sum() if self._reduction == "sum" else -surrogate.mean(1).sum()
        trained = [parameter for parameter in self._parameters if parameter.requires_grad]
        found = iter(torch.autograd.grad(loss, trained, allow_unused=True))
        return tuple(next(found) if each.requires_grad else None for each in self._parameters), metrics

    def _stack_optimizer(self) -> None:
        """One optimiser for all, whose state is the members' stacked."""
        theirs = [each.parts.optimizer for each in self._members]
        stacked = iter(self._parameters)
        by_name = dict(zip((name for name, _ in self._value.named_parameters()), stacked, strict=True))
        state: defaultdict[Tensor, dict[str, object]] = defaultdict(dict)
        for number, group in enumerate(self._optimizer.param_groups):
            group["params"] = [by_name[name] for name in group["param_names"]]
            for place, parameter in enumerate(group["params"]):
                states = [each.state.get(each.param_groups[number]["params"][place], {}) for each in theirs]
                for key, value in states[0].items():
                    is_moment = (
                        isinstance(value, Tensor) and value.shape == parameter.shape[1:] and value.dim() > 0
                    )
                    state[parameter][key] = (
                        torch.stack([each[key] for each in states]) if is_moment else copy.deepcopy(value)
                    )
        self._optimizer.state = state

    def _share_optimizer(self) -> None:
        """Each member's own optimiser has its rows of the state."""
        for row, member in enumerate(self._members):
            ours, theirs = self._optimizer.param_groups, member.parts.optimizer.param_groups
            for group, own in zip(ours, theirs, strict=True):
                own["lr"] = group["lr"]
                for stacked, parameter in zip(group["params"], own["params"], strict=True):
                    member.parts.optimizer.state[parameter] = {
                        key: value[row]
                        if isinstance(value, Tensor) and value.shape == stacked.shape
                        else copy.deepcopy(value)
                        for key, value in self._optimizer.state[stacked].items()
                    }


def _report(sums: dict[str, Tensor], row: int, count: int, step: int, ends: bool) -> Report | UserError:
    """Of the member in this row."""
    try:
        found = averages({name: values[row] for name, values in sums.items()}, count, step)
    except UserError as error:
        return error
    return Report(step, found, ends_segment=ends)
