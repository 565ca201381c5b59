"""Ascending an objective: the learning-rate schedule, the optimiser's parameter groups, and the loop itself."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from evidence import streams
from evidence.errors import UserError
from evidence.models import LatentVariableModel
from evidence.objectives import Objective
from evidence.streams import Stream

Differentiate = Callable[..., tuple[tuple[Tensor | None, ...], dict[str, Tensor]]]  # as `gradients` does


class Segment(NamedTuple):
    """A stretch of steps, up to and including `last_step`, at one learning rate."""

    last_step: int
    learning_rate: float


def staged_schedule(stages: int, steps_per_pass: int, learning_rate: float) -> list[Segment]:
    """Stage i lasts 3^i passes at learning_rate 10^(-i/7) (Burda et al. 2015, Section 5; eight stages there)."""
    last_steps = [steps_per_pass * (3 ** (i + 1) - 1) // 2 for i in range(stages)]
    return [Segment(last, learning_rate * 10 ** (-i / 7)) for i, last in enumerate(last_steps)]


def decayed_schedule(steps: int, learning_rate: float, decay: float, every: int) -> list[Segment]:
    """The learning rate is multiplied by `decay` every so many steps (UIVI's code: 0.9 every 15,000)."""
    starts = range(0, steps, every)
    return [Segment(min(start + every, steps), learning_rate * decay**i) for i, start in enumerate(starts)]


def schedule(
    stages: int | None,
    steps: int | None,
    learning_rate: float,
    decay: float | None,
    decay_every: int | None,
    steps_per_pass: int,
) -> list[Segment]:
    """The stages' schedule where their number is given, else the one of `steps` steps, with its decay if it has one."""
    if stages is not None:
        return staged_schedule(stages, steps_per_pass, learning_rate)
    assert steps is not None  # one of the two is given
    return decayed_schedule(steps, learning_rate, decay or 1.0, decay_every or steps)


class Report(NamedTuple):
    """The objective's metrics averaged since the last report; `ends_segment` where the learning rate changes next."""

    step: int
    metrics: dict[str, float]
    ends_segment: bool


def parameter_groups(
    model: LatentVariableModel, objective: Objective, scale_rate: float
) -> list[dict[str, object]]:
    """All parameters, with their names, in groups of a learning rate's ratio to the rest.

    The ratio is `scale_rate` for those that a module names in `scale_parameters`, such as a semi-implicit posterior's
    global sigma (0.2 in UIVI's code), and `relative_rate` for all of a module that has this number.
    """
    named = [*model.named_parameters("model"), *objective.named_parameters("objective")]
    apart: dict[str, tuple[str, float]] = {}
    for name, module in [*model.named_modules(prefix="model"), *objective.named_modules(prefix="objective")]:
        own = [key for key, _ in module.named_parameters(name)] if hasattr(module, "relative_rate") else []
        apart |= {key: (name, float(module.relative_rate)) for key in own}
        apart |= {f"{name}.{key}": ("scales", scale_rate) for key in getattr(module, "scale_parameters", ())}
    groups = {("rest", 1.0): [each for each in named if each[0] not in apart]}
    for each in named:
        if each[0] in apart:
            groups.setdefault(apart[each[0]], []).append(each)
    return [{"params": members, "rate": ratio} for (_, ratio), members in groups.items()]


def carry_over(
    model: LatentVariableModel, optimizer: torch.optim.Optimizer, state: Mapping[str, dict[str, Any]]
) -> None:
    """Start from another run's end, its `state`: the model and what the optimizer knew of the model's parameters.

    So an objective is switched in mid-training (Burda et al. 2015, Table 2).
    """
    model.load_state_dict(state["model"])
    theirs, ours = state["optimizer"], optimizer.state_dict()
    known = {name: theirs["state"][number] for name, number in _numbered(theirs) if number in theirs["state"]}
    for name, number in _numbered(ours):
        if name.startswith("model.") and name in known:
            ours["state"][number] = known[name]
    optimizer.load_state_dict(ours)


def check_layouts(model: LatentVariableModel, objective: Objective) -> None:
    """Raises UserError, naming it, where a parameter does not fill memory of its own, as optimisers assume."""
    spans = []
    for name, parameter in [*model.named_parameters("model"), *objective.named_parameters("objective")]:
        if parameter.requires_grad and parameter.layout == torch.strided and parameter.numel():
            if torch.empty_like(parameter, device="meta").stride() != parameter.stride():
                raise UserError(f"{name}: not laid out densely in memory; make it so with .contiguous()")
            start = parameter.data_ptr()
            spans.append((start, start + parameter.numel() * parameter.element_size(), name))
    for (_, end, one), (start, _, other) in pairwise(sorted(spans)):
        if start < end:
            raise UserError(f"{one} and {other} share memory, which only a CPU keeps so: make one a .clone()")


def set_gradients(parameters: Sequence[Tensor], found: Sequence[Tensor | None]) -> None:
    """Give each parameter its gradient, at its own strides and in memory of its own.

    torch's fused optimisers read memory in order, whatever the strides, and others compute in the gradients' memory,
    which autograd shares between parameters whose gradients are equal. A sparse gradient stays as it is: an optimiser
    takes it or says that it does not.
    """
    taken: set[int] = set()
    for parameter, gradient in zip(parameters, found, strict=True):
        if gradient is not None and gradient.layout == torch.strided:
            memory = gradient.untyped_storage().data_ptr()
            if memory in taken or gradient.stride() != parameter.stride():
                gradient = torch.empty_like(parameter).copy_(gradient)
            taken.add(memory)
        parameter.grad = gradient


def check_finite(modules: Mapping[str, nn.Module], step: int) -> None:
    """Raises UserError where a parameter is not finite, or a buffer not a number, after `step`, naming it.

    A buffer may hold infinities that mean something, such as a mask.
    """
    for part, module in modules.items():
        for name, value in module.state_dict(keep_vars=True).items():
            if isinstance(value, Tensor):
                numbers = value.detach() if value.layout == torch.strided else value.detach().to_dense()
                is_sound = numbers.isfinite() if isinstance(value, nn.Parameter) else ~numbers.isnan()
                if not is_sound.all():
                    raise UserError(diverged(f"{part}.{name} is not finite after step {step}"))


def diverged(what: str) -> str:
    """The complaint about a number that is not finite."""
    return f"{what}: training has diverged; the last good checkpoint is kept (try a smaller trainer.learning_rate)"


def gradients(
    model: LatentVariableModel,
    objective: Objective,
    parameters: Sequence[Tensor],
    x: Tensor,
    reduction: Literal["sum", "mean"],
    stream: Stream | None = None,
) -> tuple[tuple[Tensor | None, ...], dict[str, Tensor]]:
    """The gradient to descend on one batch x [B, X], that of minus the surrogate, and the objective's metrics.

    One for each of the parameters, None where it plays no part. The surrogate [B] is reduced over the batch by sum
    (both papers' code) or mean: with an optimiser that adds eps to the root of the second moment, sum with eps is
    mean with eps / B. Noise comes from the stream, or without one from the global generator.
    """
    with streams.drawing(stream):
        surrogate, metrics = objective(model, x)
    if surrogate.shape != x.shape[:1]:
        raise UserError(
            f"the objective's surrogate has shape {list(surrogate.shape)}, and must have {[len(x)]}"
        )
    loss = -surrogate.sum() if reduction == "sum" else -surrogate.mean()
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    found = iter(torch.autograd.grad(loss, trained, allow_unused=True))
    return tuple(next(found) if parameter.requires_grad else None for parameter in parameters), metrics


def train(
    model: LatentVariableModel,
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    batches: Iterator[Tensor],
    schedule: list[Segment],
    reduction: Literal["sum", "mean"],
    log_every: int,
    first_step: int = 0,
    differentiate: Differentiate = gradients,
    seed: int | None = None,
) -> Iterator[Report]:
    """Take the schedule's steps after `first_step`, one for each x [B, X] of `batches`, reporting as they go.

    Noise is a function of the seed and the step; without a seed it comes from the global generator. Modules are in the
    mode they are in. Raises: UserError where a metric stops being finite, comes or goes between two reports, naming it
    and the step, or where a parameter's layout in memory is none that can be trained.
    """
    sums: dict[str, Tensor] = {}
    step = last_report = first_step
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    check_layouts(model, objective)
    _lay_out_state(optimizer, parameters)
    for segment, begins in zip(schedule, [0, *(segment.last_step for segment in schedule)], strict=False):
        if step == begins:  # within a segment the optimiser has its rate, and may have changed it
            for group in optimizer.param_groups:
                group["lr"] = segment.learning_rate * group["rate"]
        while step < segment.last_step:
            x, stream = next(batches), None
            if seed is not None:
                stream = Stream(seed, streams.TRAINING, step)
                streams.seed_globally(x.device, seed, step)  # for what a user's code draws
            found, metrics = differentiate(model, objective, parameters, x, reduction, stream=stream)
            step += 1
            sums = added(sums, metrics, step)  # before the optimiser changes what a metric may be a view of
            set_gradients(parameters, found)
            optimizer.step()
            if step % log_every == 0 or step == segment.last_step:
                means = averages(sums, step - last_report, step)
                yield Report(step, means, ends_segment=step == segment.last_step)
                sums, last_report = {}, step


def _lay_out_state(optimizer: torch.optim.Optimizer, parameters: Sequence[Tensor]) -> None:
    """Moments that a checkpoint or another run brought may be laid out as the parameters were there."""
    for parameter in parameters:
        state = optimizer.state.get(parameter, {})
        for name, value in state.items():
            if (
                isinstance(value, Tensor)
                and value.layout == parameter.layout == torch.strided
                and value.shape == parameter.shape
                and value.stride() != parameter.stride()
            ):
                state[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def added(sums: dict[str, Tensor], metrics: dict[str, Tensor], step: int) -> dict[str, Tensor]:
    """The sums with a step's metrics added, in float32 at least, since not every type adds up in itself.

    Raises: UserError where the metrics are others than those of the step before.
    """
    if sums and metrics.keys() != sums.keys():
        names = ", ".join(sorted(metrics.keys() ^ sums.keys()))
        raise UserError(f"step {step}: the objective's metrics are others than a step before ({names})")
    values = {name: v.to(torch.promote_types(v.dtype, torch.float32)) for name, v in metrics.items()}
    return {name: sums[name] + value if sums else value.clone() for name, value in values.items()}


def averages(sums: dict[str, Tensor], count: int, step: int) -> dict[str, float]:
    """The means of `count` steps; raises UserError naming the first that is not finite."""
    return means(dict(zip(sums, torch.stack(list(sums.values())).tolist(), strict=True)), count, step)


def means(sums: dict[str, float], count: int, step: int) -> dict[str, float]:
    """The sums over `count` steps divided by it; raises UserError naming the first that is not finite."""
    for name, total in sums.items():
        if not math.isfinite(total):
            mean = total / count
            raise UserError(diverged(f"{name} is {mean} in the {count} steps before step {step}"))
    return {name: total / count for name, total in sums.items()}


def _numbered(optimizer_state: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """Each parameter's name and its number in an optimizer's state."""
    for group in optimizer_state["param_groups"]:
        yield from zip(group["param_names"], group["params"], strict=True)
