"""Finds state that no checkpoint keeps and that changes what modules compute next."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from evidence.modules import KEPT_BY_TORCH, equal
from evidence.streams import forked_rng


def unsaved_state(used: Mapping[str, nn.Module], fresh: Mapping[str, nn.Module], x: Tensor) -> list[str]:
    """The dotted names of what differs, if a step from `used` is not one from `fresh` with the state of `used`.

    Both have "model" and "objective". `fresh` is as at the start of training, as in a resumed run. It gets the
    state_dict of `used`, and must then take the same step. What only remembers, such as a cache, changes no step.
    """
    for name, module in fresh.items():
        module.load_state_dict(copy.deepcopy(used[name].state_dict()))
    names = differing(used, fresh)
    return names if names and not equal(_step(used, x), _step(fresh, x)) else []


def differing(used: Mapping[str, nn.Module], fresh: Mapping[str, nn.Module]) -> list[str]:
    """The dotted names of the attributes and buffers in which the modules differ."""
    return [
        f"{name}.{key}"
        for prefix, module in used.items()
        for (name, one), other in zip(
            module.named_modules(prefix=prefix), fresh[prefix].modules(), strict=False
        )
        for key in _differing(vars(one) | one._buffers, vars(other) | other._buffers)
    ]


def _step(modules: Mapping[str, nn.Module], x: Tensor) -> list[Tensor | None]:
    """The surrogate and its gradient. A state may change one of them alone."""
    trained = [each for module in modules.values() for each in module.parameters() if each.requires_grad]
    with forked_rng(x.device, 0):
        surrogate: Tensor = modules["objective"](modules["model"], x).surrogate
        return [surrogate.detach(), *torch.autograd.grad(surrogate.sum(), trained, allow_unused=True)]


def _differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    return [key for key in one if key not in KEPT_BY_TORCH and not equal(one[key], other.get(key))]
