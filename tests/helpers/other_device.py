"""A device that is not the CPU, for machines without a GPU: one operation on tensors of both is an error, as there.

Its tensors are computed on the CPU. They say that they are on `lazy`, a device type of torch that has no kernels.
"""

import contextlib
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from evidence import execution

DEVICE = torch.device("lazy", 0)
aten = torch.ops.aten
BETWEEN_DEVICES = aten._to_copy.default, aten.copy_.default
operations: set[str] = set()


class There(Tensor):
    """A tensor of the other device; `here` has its numbers."""

    here: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, here: Tensor) -> "There":
        made: There = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            here.shape,
            strides=here.stride(),
            storage_offset=here.storage_offset(),
            dtype=here.dtype,
            device=DEVICE,
        )
        made.here = here
        return made

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return computed(function, args, kwargs or {})

    def __getitem__(self, index: Any) -> Tensor:
        return Tensor.__getitem__(
            self, torch.tensor(index, device=DEVICE) if isinstance(index, list) else index
        )

    def __deepcopy__(self, memo: dict[int, object]) -> Tensor:
        copy = There(self.here.clone())
        return nn.Parameter(copy, self.requires_grad) if isinstance(self, nn.Parameter) else copy

    # What torch does for its own devices only.
    tolist = lambda self: self.here.tolist()  # noqa: E731
    data_ptr = lambda self: self.here.data_ptr()  # noqa: E731
    untyped_storage = lambda self: self.here.untyped_storage()  # noqa: E731
    __reduce_ex__ = lambda self, protocol: self.here.__reduce_ex__(protocol)  # noqa: E731


class _Everywhere(TorchDispatchMode):
    """What makes a tensor, too."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return computed(function, args, kwargs or {})


def computed(function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """What torch's operation returns; RuntimeError for tensors of two devices, but for numbers without a dimension."""
    given = tree_leaves((args, kwargs))
    tensors = [each for each in given if isinstance(each, Tensor)]
    are_there = {isinstance(each, There) for each in tensors if each.dim() or isinstance(each, There)}
    if len(are_there) > 1 and function not in BETWEEN_DEVICES:
        raise RuntimeError(f"{function}: tensors are on two devices, {DEVICE} and cpu")
    named, is_there = kwargs, True in are_there
    if kwargs.get("device") is not None:
        is_there = torch.device(kwargs["device"]).type == DEVICE.type
        named = {**kwargs, "device": "cpu"}
    if is_there:
        operations.add(str(function))
    args_here, named_here = tree_map(_here, args), tree_map(_here, named)
    found = function(*args_here, **named_here)
    same = {id(_here(each)): each for each in tensors}  # what is written in place is returned
    return tree_map(lambda each: same.get(id(each), _there(each)) if is_there else each, found)


def _here(value: Any) -> Any:
    return value.here if isinstance(value, There) else value


def _there(value: Any) -> Any:
    return There(value) if isinstance(value, Tensor) else value


def _made(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """torch.tensor and its like, which a dispatch mode does not see."""

    def made(*args: Any, device: Any = None, **kwargs: Any) -> Tensor:
        is_there = device is not None and torch.device(device).type == DEVICE.type
        return make(*args, **kwargs).to(DEVICE) if is_there else make(*args, device=device, **kwargs)

    return made


@contextlib.contextmanager
def other_device() -> Iterator[set[str]]:
    """Inside, device=auto is the other one. Yields the names of the operations that it computes."""
    with pytest.MonkeyPatch.context() as patch, _Everywhere():
        patch.setattr(execution, "choose_device", lambda name, number: DEVICE)
        patch.setattr(torch, "tensor", _made(torch.tensor))
        patch.setattr(torch, "as_tensor", _made(torch.as_tensor))
        # torch has a fused Adam for devices that it knows.
        patch.setattr(import_module("torch.optim.adam"), "_device_dtype_check_for_fused", lambda *_: None)
        operations.clear()
        yield operations
