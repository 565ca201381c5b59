"""Runs that differ only in numbers, such as their seeds, trained by one batched step: each ends as it does alone.

The runs' parameters and buffers become rows of stacked tensors, so that a run's own modules always hold its present
state. torch.vmap takes the objective over the rows, and one update moves all of them. Noise is a function of the seed
and the step, so a run's does not depend on the others. A step reads and writes tensors in place and nothing else, so
a GPU can capture it as a graph and replay it (captured.py).
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from evidence import streams
from evidence.captured import Repeat
from evidence.compiling import fused_step
from evidence.data import Batches
from evidence.errors import UserError
from evidence.parts import Parts
from evidence.stackable import CannotStack, Place, attributes, changed, copied, differing_floats
from evidence.stacked_optimizer import StackedOptimizer
from evidence.streams import TRAINING, Stream, drawing
from evidence.training import Report, Segment, means

Result = TypeVar("Result")
Found = tuple[dict[str, Tensor | None], dict[str, Tensor]]  # gradients, and metrics
DRAWS = "it draws from torch's own generator, where evidence.streams.normal and uniform would do"


class Member(NamedTuple):
    """A run of a stack: its parts, its seed, and its batches."""

    parts: Parts
    seed: int
    batches: Batches


class _Value(nn.Module):
    """The surrogate [B] of one step, and its metrics. Its forward calls a function, for torch.func.functional_call."""

    def __init__(self, parts: Parts, batches: Batches, places: Sequence[Place] = ()) -> None:
        super().__init__()
        self.model, self.objective = parts.model, parts.objective
        self.batches, self.places = batches, places

    def forward(self, function: Callable[..., Result], *given: object) -> Result:
        return function(*given)

    def surrogate(
        self, rows: Tensor, seed: Tensor, step: Tensor, numbers: Sequence[Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Of the images in these rows, one run's numbers from `numbers`."""
        x = self.batches.draw(rows, seed, step)
        own = [getattr(self.get_submodule(name), attribute) for name, attribute in self.places]
        self._set(numbers)
        is_tried = not torch.compiler.is_compiling()  # the first step is tried as it stands
        buffers = dict(self.named_buffers()) if is_tried else {}
        with drawing(Stream(seed, TRAINING, step)):
            surrogate, metrics = self.objective(self.model, x)
        for name, buffer in buffers.items():
            if self.get_buffer(name) is not buffer:
                raise CannotStack(f"a step assigns the buffer {name} anew, and does not write it in place")
        self._set(own)
        return surrogate, metrics

    def _set(self, numbers: Sequence[object]) -> None:
        for (name, attribute), number in zip(self.places, numbers, strict=True):
            setattr(self.get_submodule(name), attribute, number)


class Stack:
    """Takes steps of all members at once, by captured.Repeat or captured.Replay.

    Raises: CannotStack where torch.vmap does not take what they compute.
    """

    def __init__(
        self,
        members: Sequence[Member],
        reduction: Literal["sum", "mean"],
        first_step: int,
        compiled: bool,
        repeat: Callable[[Callable[[], None]], Repeat] = Repeat,
    ) -> None:
        self._members, self._reduction = members, reduction
        self.step = first_step
        batches, device = members[0].batches, members[0].batches.train.device
        rows = [_Value(each.parts, each.batches) for each in members]
        places = differing_floats(rows)
        self._numbers = [
            torch.tensor([getattr(row.get_submodule(name), key) for row in rows], device=device)
            for name, key in places
        ]
        self._value = _Value(copied(members[0].parts), batches, places)
        seeds = [streams.signed(each.seed) for each in members]
        self._seeds = torch.tensor(seeds, dtype=torch.int64, device=device)
        self._order = torch.zeros(
            len(members), batches.steps, batches.batch_size, dtype=torch.int64, device=device
        )
        self._step = torch.tensor(first_step, device=device)
        self._load_order()
        self._state = {
            name: torch.stack([row.get_parameter(name).detach() for row in rows]).requires_grad_(
                parameter.requires_grad
            )
            for name, parameter in self._value.named_parameters()
        } | {
            name: torch.stack([row.get_buffer(name) for row in rows])
            for name, _ in self._value.named_buffers()
        }
        used, metrics = self._try()
        self._sums = {
            name: torch.zeros_like(value, dtype=torch.promote_types(value.dtype, torch.float32))
            for name, value in metrics.items()
        }
        self._optimizer = StackedOptimizer([each.parts.optimizer for each in members], used)
        for name in used:
            del self._state[name]
        self._give_rows(rows)
        parts = (self._optimizer.count, self._move)
        self._parts = tuple(fused_step(part) for part in parts) if compiled else parts
        self._advance = repeat(self.take)

    def set_rates(self, rates: Sequence[float]) -> None:
        """The learning rate of each member."""
        self._optimizer.set_rates(rates)

    def advance(self, count: int) -> None:
        """Take `count` steps; where they are captured this returns before they are done."""
        last = self.step + count
        while self.step < last:
            if self.step % self._order.shape[1] == 0:
                self._advance.wait()
                self._load_order()
            left = self._order.shape[1] - self.step % self._order.shape[1]
            size = min(left, last - self.step)
            self._advance(size)
            self.step += size

    def report(self, count: int, ends_segment: bool) -> list[Report | UserError]:
        """Each member's metrics over the last `count` steps, or what is wrong; the members hold their state."""
        self._advance.wait()
        table = torch.stack([*self._sums.values()]).tolist()
        for sums in self._sums.values():
            sums.zero_()
        self._optimizer.share()
        return [
            _report(dict(zip(self._sums, column, strict=True)), count, self.step, ends_segment)
            for column in zip(*table, strict=True)
        ]

    def take(self) -> None:
        """One step of every member, in place."""
        for part in self._parts:
            part()

    @torch.no_grad()
    def _move(self) -> None:
        found, metrics = self._differentiate(self._state | self._optimizer.parameters())
        self._optimizer.update({name: gradient for name, gradient in found.items() if gradient is not None})
        for name, sums in self._sums.items():
            sums.add_(metrics[name])
        self._step.add_(1)

    @torch.enable_grad()
    def _differentiate(self, all_state: dict[str, Tensor]) -> Found:
        """The gradients [R, ...] to descend, and the metrics [R]."""
        rows = self._order.index_select(1, (self._step % self._order.shape[1]).unsqueeze(0)).squeeze(1)
        per_image = 1 if self._reduction == "sum" else 1 / rows.shape[1]
        trained = {name: value for name, value in all_state.items() if value.requires_grad}

        def differentiated(surrogate: Tensor, metrics: dict[str, Tensor]) -> Found:
            found = torch.autograd.grad(-per_image * surrogate.sum(), [*trained.values()], allow_unused=True)
            return dict(zip(trained, found, strict=True)), metrics

        if len(self._members) > 1:
            return differentiated(*torch.vmap(self._of_one)(all_state, rows, self._seeds, self._numbers))

        def one() -> Found:
            # In here the state is in force in the backward pass too, which computes pieces again.
            numbers = [each.squeeze(0) for each in self._numbers]
            surrogate, metrics = self._value.surrogate(rows[0], self._seeds[0], self._step, numbers)
            return differentiated(surrogate, {name: value.unsqueeze(0) for name, value in metrics.items()})

        return self._with(one, {name: value.squeeze(0) for name, value in all_state.items()})

    def _of_one(
        self, state: dict[str, Tensor], rows: Tensor, seed: Tensor, numbers: Sequence[Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        return self._with(self._value.surrogate, state, rows, seed, self._step, numbers)

    def _with(self, function: Callable[..., Result], state: dict[str, Tensor], *given: object) -> Result:
        """What the function returns, while the modules have this state."""
        found: Result = torch.func.functional_call(self._value, state, (function, *given))
        return found

    def _try(self) -> tuple[list[str], dict[str, Tensor]]:
        """The names of the parameters that have a gradient, and metrics, of a step that changes nothing."""
        buffers = {name: value.clone() for name, value in self._state.items() if not value.requires_grad}
        before, held = _generator(self._step.device), attributes(self._value)
        try:
            found, metrics = self._differentiate(self._state)
        except (UserError, CannotStack):
            raise
        except Exception as error:
            why = DRAWS if "randomness" in str(error) else f"torch.vmap says: {str(error).splitlines()[0]}"
            raise CannotStack(why) from error
        if not torch.equal(before, _generator(self._step.device)):  # vmap notices draws of several runs only
            raise CannotStack(DRAWS)
        if names := changed(held, attributes(self._value)):
            raise CannotStack(f"a step changes {', '.join(names)}, which is no buffer")
        for name, value in buffers.items():
            self._state[name].copy_(value)
        return [name for name, gradient in found.items() if gradient is not None], metrics

    def _give_rows(self, rows: Sequence[_Value]) -> None:
        """Each member's modules have their rows of the stacked tensors."""
        state = {name: value.detach() for name, value in (self._state | self._optimizer.parameters()).items()}
        for number, row in enumerate(rows):
            for name, parameter in row.named_parameters():
                parameter.data = state[name][number]
            for name, _ in list(row.named_buffers()):
                owner, _, leaf = name.rpartition(".")
                row.get_submodule(owner)._buffers[leaf] = state[name][number]

    def _load_order(self) -> None:
        """The order of the images in the present pass."""
        number = self.step // self._order.shape[1]
        self._order.copy_(torch.stack([each.batches.order(number) for each in self._members]))


def train(
    stack: Stack, schedules: Sequence[Sequence[Segment]], log_every: int
) -> Iterator[list[Report | UserError] | None]:
    """Take the steps of the members' schedules, which end their segments at the same steps.

    Yields None once the steps up to the next report are on their way, and then each member's report or error.
    """
    begins = 0
    for segments in zip(*schedules, strict=True):
        if stack.step == begins:  # within a segment the optimisers have their rates
            stack.set_rates([segment.learning_rate for segment in segments])
        begins = segments[0].last_step
        while stack.step < begins:
            count = min(log_every - stack.step % log_every, begins - stack.step)
            stack.advance(count)
            yield None
            yield stack.report(count, ends_segment=stack.step == begins)


def _generator(device: torch.device) -> Tensor:
    """The state of torch's own generator."""
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def _report(sums: dict[str, float], count: int, step: int, ends: bool) -> Report | UserError:
    """Of one member."""
    try:
        return Report(step, means(sums, count, step), ends_segment=ends)
    except UserError as error:
        return error
