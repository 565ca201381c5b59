"""Adam, AdamW or RMSprop on several runs at once, each with constants of its own, in place.

It does what torch.optim does to each run, to rounding (Kingma and Ba 2015; Loshchilov and Hutter 2019; Tieleman and
Hinton 2012). RMSprop is Adam with beta_1 = 0 and without the corrections of the moments' bias. Parameters and moments
are rows of flat buffers, so that one kernel moves them all. No number is read back.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

Optimizers = Sequence[torch.optim.Optimizer]


class _Constants(NamedTuple):
    """Of each run, [R, 1], in the parameters' type: 1 - beta_1, beta_2, 1 - beta_2, eps and the weight decay."""

    new_mean: Tensor
    old_square: Tensor
    new_square: Tensor
    eps: Tensor
    decay: Tensor


class _Group(NamedTuple):
    """Parameters with one set of constants and one number of steps taken.

    number: of the group in each run's optimiser. names, shapes: of the parameters. flat, mean, square: they and both
    moments, [R, P]. taken, rate, decay, bias_1, bias_2: [R, 1], float64; the latter are what a moment's bias is a power
    of. step, bias, kept: what `count` computes.
    """

    number: int
    names: list[str]
    shapes: list[torch.Size]
    flat: Tensor
    mean: Tensor
    square: Tensor
    taken: Tensor
    rate: Tensor
    bias_1: Tensor
    bias_2: Tensor
    decay: Tensor
    step: Tensor
    bias: Tensor
    kept: Tensor
    constants: _Constants
    is_decoupled: bool

    def windows(self, buffer: Tensor) -> dict[str, Tensor]:
        """The part of each parameter in a buffer [R, P], as [R, *shape]."""
        parts = buffer.split([shape.numel() for shape in self.shapes], 1)
        return {
            name: part.view(len(buffer), *shape)
            for name, shape, part in zip(self.names, self.shapes, parts, strict=True)
        }


def is_stackable(optimizer: torch.optim.Optimizer) -> bool:
    """Whether it is torch's Adam, AdamW or RMSprop without the options that change the formula."""
    changes = "amsgrad", "maximize", "centered", "momentum"
    is_plain = not any(group.get(key) for group in optimizer.param_groups for key in changes)
    return type(optimizer) in (torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop) and is_plain


class StackedOptimizer:
    """Moves the parameters `used` of R runs, whose own optimisers have groups of the same names."""

    def __init__(self, optimizers: Optimizers, used: Sequence[str]) -> None:
        self._optimizers = optimizers
        self._groups = [
            made
            for number in range(len(optimizers[0].param_groups))
            for made in _groups(optimizers, number, set(used))
        ]

    @torch.enable_grad()
    def parameters(self) -> dict[str, Tensor]:
        """The parameters [R, *shape] by name: views of the flat buffers, which require a gradient."""
        return {name: window for group in self._groups for name, window in group.windows(group.flat).items()}

    def set_rates(self, rates: Sequence[float]) -> None:
        """The learning rate of each run, from here on; a group has it times its `rate`."""
        for group in self._groups:
            for optimizer, rate in zip(self._optimizers, rates, strict=True):
                own = optimizer.param_groups[group.number]
                own["lr"] = rate * own["rate"]
            group.rate.copy_(_column(group.rate.device, self._optimizers, group.number, "lr"))

    @torch.no_grad()
    def count(self) -> None:
        """Count a step that is about to be taken, and compute what it is scaled by, in float64."""
        for group in self._groups:
            group.taken.add_(1)
            group.step.copy_(group.rate / (1 - group.bias_1**group.taken))
            group.bias.copy_((1 - group.bias_2**group.taken).sqrt())
            group.kept.copy_(1 - group.rate * group.decay)

    @torch.no_grad()
    def update(self, gradients: Mapping[str, Tensor]) -> None:
        """The step that was counted, along the gradients [R, *shape] to descend, by name.

        One pass over the buffers. The bias corrections, inside it, would be computed for each number.
        """
        for group in self._groups:
            flat, constants = group.flat, group.constants
            gradient = torch.cat([gradients[name].reshape(len(flat), -1) for name in group.names], 1)
            if group.is_decoupled:
                flat.mul_(group.kept)
            else:
                gradient = gradient + constants.decay * flat
            group.mean.lerp_(gradient, constants.new_mean)
            group.square.mul_(constants.old_square).add_(constants.new_square * gradient * gradient)
            flat.sub_(group.step * group.mean / (group.square.sqrt() / group.bias + constants.eps))

    def share(self) -> None:
        """Each run's own optimiser has its rows of the state, and its parameters are those of its modules."""
        for group in self._groups:
            means, squares = group.windows(group.mean), group.windows(group.square)
            own = self._optimizers[0].param_groups[group.number]
            on_device = own.get("fused") or own.get("capturable")  # where torch expects the step's number
            device = group.flat.device if on_device else "cpu"
            dtype = torch.float32 if own.get("fused") else torch.get_default_dtype()
            taken = group.taken.to(device, dtype).repeat(1, len(group.names))  # each parameter has its own
            for row, optimizer in enumerate(self._optimizers):
                parameters = _named(optimizer, group.number)
                mean, square = _moments(optimizer)
                for name, step in zip(group.names, taken[row].unbind(), strict=True):
                    kept = {"step": step, mean: means[name][row], square: squares[name][row]}
                    optimizer.state[parameters[name]] = {key: value for key, value in kept.items() if key}


def _moments(optimizer: torch.optim.Optimizer) -> tuple[str, str]:
    """The names under which it keeps both moments. RMSprop has no first one."""
    return ("", "square_avg") if isinstance(optimizer, torch.optim.RMSprop) else ("exp_avg", "exp_avg_sq")


def _betas(optimizer: torch.optim.Optimizer, number: int) -> tuple[float, float]:
    """How much of each moment a step keeps."""
    group = optimizer.param_groups[number]
    return (0.0, group["alpha"]) if isinstance(optimizer, torch.optim.RMSprop) else group["betas"]


def _named(optimizer: torch.optim.Optimizer, number: int) -> dict[str, Tensor]:
    group = optimizer.param_groups[number]
    return dict(zip(group["param_names"], group["params"], strict=True))


def _groups(optimizers: Optimizers, number: int, used: set[str]) -> list[_Group]:
    """The used parameters of a group, apart by the numbers of steps that they have taken."""
    named = [_named(optimizer, number) for optimizer in optimizers]
    by_taken: dict[tuple[float, ...], list[str]] = {}
    for name in named[0]:
        if name in used:
            states = [each.state.get(own[name], {}) for each, own in zip(optimizers, named, strict=True)]
            taken = tuple(float(state.get("step", 0.0)) for state in states)
            by_taken.setdefault(taken, []).append(name)
    return [
        _group(optimizers, number, names, taken, [[own[name] for name in names] for own in named])
        for taken, names in by_taken.items()
    ]


def _group(
    optimizers: Optimizers,
    number: int,
    names: list[str],
    taken: tuple[float, ...],
    parameters: list[list[Tensor]],
) -> _Group:
    device = parameters[0][0].device

    def rows(key: str | None) -> Tensor:
        """The parameters themselves, or a moment, [R, P]."""
        pairs = zip(optimizers, parameters, strict=True)
        return torch.stack(
            [torch.cat([_part(each, own, key).flatten() for own in owned]) for each, owned in pairs]
        )

    flat = rows(None)
    betas = torch.tensor([_betas(each, number) for each in optimizers], dtype=torch.float64, device=device)
    beta_1, beta_2 = betas.T[:, :, None]
    mean, square = _moments(optimizers[0])
    has_bias = not isinstance(optimizers[0], torch.optim.RMSprop)
    decay, eps = (_column(device, optimizers, number, key) for key in ("weight_decay", "eps"))
    own = optimizers[0].param_groups[number]
    return _Group(
        number,
        names,
        [parameter.shape for parameter in parameters[0]],
        flat.requires_grad_(),
        rows(mean),
        rows(square),
        torch.tensor(taken, dtype=torch.float64, device=device)[:, None],
        _column(device, optimizers, number, "lr"),
        beta_1 * has_bias,
        beta_2 * has_bias,
        decay,
        flat.new_ones(len(flat), 1),
        flat.new_ones(len(flat), 1),
        flat.new_ones(len(flat), 1),
        _Constants(*(each.to(flat.dtype) for each in (1 - beta_1, beta_2, 1 - beta_2, eps, decay))),
        bool(own.get("decoupled_weight_decay", isinstance(optimizers[0], torch.optim.AdamW))),
    )


def _part(optimizer: torch.optim.Optimizer, parameter: Tensor, key: str | None) -> Tensor:
    state: dict[str, Any] = optimizer.state.get(parameter, {})
    if key is None:
        return parameter.detach()
    return state[key].detach() if key in state else torch.zeros_like(parameter).detach()


def _column(device: torch.device, optimizers: Optimizers, number: int, key: str) -> Tensor:
    """A constant of each run's group, float64 [R, 1]."""
    values = [float(each.param_groups[number][key]) for each in optimizers]
    return torch.tensor(values, dtype=torch.float64, device=device)[:, None]
