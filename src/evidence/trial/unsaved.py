"""Finds state that no checkpoint keeps and that changes what modules compute next."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from evidence.numerics import forked_rng, same_numbers


def unsaved_state(used: Mapping[str, nn.Module], fresh: Mapping[str, nn.Module], x: Tensor) -> list[str]:
    """The dotted names of what differs, if a step from `used` is not one from `fresh` with the state of `used`.

    Both have "model" and "objective". `fresh` is as at the start of training, as in a resumed run. It gets the
    state_dict of `used`, and must then take the same step. What only remembers, such as a cache, changes no step.
    """
    for name, module in fresh.items():
        module.load_state_dict(copy.deepcopy(used[name].state_dict()))
    names = [
        f"{name}.{key}"
        for prefix, module in used.items()
        for (name, one), other in zip(
            module.named_modules(prefix=prefix), fresh[prefix].modules(), strict=False
        )
        for key in _differing(vars(one) | one._buffers, vars(other) | other._buffers)
    ]
    return names if names and not torch.allclose(_value(used, x), _value(fresh, x)) else []


def _value(modules: Mapping[str, nn.Module], x: Tensor) -> Tensor:
    with forked_rng(x.device, 0):
        surrogate: Tensor = modules["objective"](modules["model"], x).surrogate
        return surrogate.detach()


def _differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    return [key for key in one if not key.startswith("_") and not _equal(one[key], other.get(key))]


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.shape == other.shape and same_numbers(one.detach(), other.detach())
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_equal, one, other))
    return type(one) is type(other) and repr(one) == repr(other)
