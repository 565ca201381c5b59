"""Tells a user's modules, puts modules back as they were, scores with them, and compares their attributes."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

SCORED = "is_scored"  # the attribute of a module inside `scoring`
KEPT_BY_TORCH = vars(nn.Module()).keys()  # the attributes of every module


def is_users(module: nn.Module) -> bool:
    """Whether its class is neither this package's nor torch's."""
    return not type(module).__module__.startswith(("evidence.", "torch."))


@contextlib.contextmanager
def unchanged(module: nn.Module) -> Iterator[None]:
    """Afterwards `module` and its submodules hold what they held before, whatever the block has done with them.

    Their attributes, the flag `training` and Python numbers among them, are the objects they were, and their tensors,
    parameters and buffers among them, have the numbers they had. What changes inside any other object, such as a list
    or a generator, stays changed.
    """
    locked = [
        (group, dict(group.items()))
        for part in module.modules()
        for group in (vars(part), part._parameters, part._buffers)
    ]
    modes = [(part, part.training) for part in module.modules()]  # which torch.jit keeps elsewhere
    tensors = [value for _, group in locked for value in group.values() if isinstance(value, Tensor)]
    numbers = [(tensor, tensor.detach().clone()) for tensor in tensors if not is_lazy(tensor)]
    try:
        yield
    finally:
        for now, before in locked:
            for name in set(now.keys()) - set(before):
                del now[name]
            for name, value in before.items():
                if name not in now or now[name] is not value:
                    now[name] = value
        for part, mode in modes:
            part.training = mode
        with torch.no_grad():
            for tensor, copy in numbers:
                if not same_numbers(tensor, copy):
                    tensor.copy_(copy)


def same_numbers(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors, sparse or not, are equal."""
    pair = [each if each.layout == torch.strided else each.to_dense() for each in (one, other)]
    return torch.equal(*pair)


def equal(one: Any, other: Any, within: frozenset[int] = frozenset()) -> bool:
    """Whether two attributes of modules are the same, to the last bit.

    Other objects are, if they have the same words (`repr`) and equal attributes. `within`: the ids of the objects whose
    attributes are being compared, which may refer to each other.
    """
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.shape == other.shape and same_numbers(one.detach(), other.detach())
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(equal(one[key], other[key], within) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(equal(*pair, within) for pair in zip(one, other, strict=True))
    if type(one) is not type(other) or repr(one) != repr(other):
        return False
    if one is other or id(one) in within or not hasattr(one, "__dict__"):
        return True
    return equal(vars(one), vars(other), within | {id(one)})


@contextlib.contextmanager
def scoring(module: nn.Module) -> Iterator[None]:
    """Inside, `module` is in eval mode; afterwards it is as it was, the mode of each submodule included."""
    if SCORED in vars(module):  # inside another such block
        yield
        return
    with unchanged(module):
        vars(module)[SCORED] = True
        module.eval()
        yield
