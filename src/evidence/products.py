"""Matrix products of the networks, by the library that is faster on this processor: torch's own (MKL), or oneDNN.

MKL takes no AVX-512 path on some processors. There oneDNN, which torch brings along, takes half the time.
Which one it is changes the last bits, so a run keeps the choice: see execution.settle.
"""

import time
from collections.abc import Callable
from functools import cache
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Library = Literal["torch", "oneDNN"]
Product = Callable[[Tensor, Tensor], Tensor]  # as `linear`
# oneDNN must be so much faster to be chosen: far from what processors differ by, so that each choice is repeated.
MARGIN = 1.25
MEASURED = (250, 200, 784)  # rows, in and out of the layer that is measured
PAYING = 5_000_000  # multiplications for each thread; in fewer a call of oneDNN costs more than it saves
_by_onednn_from: int | None = None  # multiplications; None where torch's own takes all products


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x weight^T + bias: x [..., in], weight [out, in], bias [out] -> [..., out], as torch.nn.functional.linear."""
    if _suits_onednn(x, weight, bias):
        return _Linear.apply(x, weight, bias)
    return F.linear(x, weight, bias)


def use(library: Library, threads: int) -> None:
    """Large products are taken by `library` from here on."""
    global _by_onednn_from
    _by_onednn_from = PAYING * threads if library == "oneDNN" else None


@cache
def faster() -> Library:
    """The library that is faster here, measured in some 40 ms: by the sum of a layer's three products.

    One thread is measured, since several wait for each other where other processes compute too.
    """
    if not has_onednn():
        return "torch"
    rows, in_dim, out_dim = MEASURED
    x, weight, grad = torch.ones(rows, in_dim), torch.ones(out_dim, in_dim), torch.ones(rows, out_dim)

    def products(product: Product) -> list[Callable[[], Tensor]]:
        return [
            lambda: product(x, weight),
            lambda: product(grad, weight.T),
            lambda: _gradient_of_weight(grad, x, product),
        ]

    calls = products(F.linear) + products(onednn)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    shortest = [
        min(each) for each in zip(*([_seconds(call) for call in calls] for _ in range(8)), strict=True)
    ]
    torch.set_num_threads(threads)
    return "oneDNN" if sum(shortest[:3]) > MARGIN * sum(shortest[3:]) else "torch"


def _seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def has_onednn() -> bool:
    """Whether this torch has oneDNN's product."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def _suits_onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether it takes this product: of enough float32 numbers on a CPU, and not in forward-mode differentiation."""
    return (
        _by_onednn_from is not None
        and x.numel() * weight.shape[0] >= _by_onednn_from
        and all(each.dtype == torch.float32 and each.device.type == "cpu" for each in (x, weight))
        and (bias is None or bias.dtype == torch.float32)
        and not torch.is_autocast_enabled("cpu")
        and torch.autograd.forward_ad._current_level < 0
    )


def _gradient_of_weight(grad: Tensor, x: Tensor, product: Product) -> Tensor:
    """grad^T x: grad [N, out], x [N, in] -> [out, in]. oneDNN copies its first factor: the smaller one comes first."""
    if grad.shape[1] > x.shape[1]:
        return product(x.T, grad.T).T.contiguous()
    return product(grad.T, x.T)


def onednn(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`linear` by oneDNN, of float32 numbers on a CPU, without a gradient."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


# An operator of its own, since torch.compile takes oneDNN's with constant weights only. Called from a compiled graph
# it costs less than one by torch.library.custom_op.
_LIBRARY = torch.library.Library("evidence", "DEF")
_LIBRARY.define("linear(Tensor x, Tensor weight, Tensor? bias=None) -> Tensor")
_LIBRARY.impl("linear", onednn, "CPU")


def _fake(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return x.new_empty(*x.shape[:-1], weight.shape[0])


def _stacked(
    info: Any, in_dims: tuple[int | None, ...], x: Tensor, weight: Tensor, bias: Tensor | None = None
) -> tuple[Tensor, int]:
    """Products under torch.vmap, by torch's own."""
    of_x, of_weight, of_bias = (*in_dims, None)[:3]
    x = x.expand(info.batch_size, *x.shape) if of_x is None else x.movedim(of_x, 0)
    weight = weight if of_weight is None else weight.movedim(of_weight, 0)
    found = x.reshape(info.batch_size, -1, x.shape[-1]) @ weight.mT
    if bias is not None:
        found = found + (bias if of_bias is None else bias.movedim(of_bias, 0).unsqueeze(1))
    return found.reshape(*x.shape[:-1], found.shape[-1]), 0


torch.library.register_fake("evidence::linear", _fake, lib=_LIBRARY)
torch.library.register_vmap("evidence::linear", _stacked, lib=_LIBRARY)


class _Linear(torch.autograd.Function):
    """The product and, by products that choose again, its gradients of any order."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return torch.ops.evidence.linear(x, weight, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        rows, grad_rows = x.reshape(-1, x.shape[-1]), grad.reshape(-1, grad.shape[-1])
        return (
            linear(grad, weight.T) if of_x else None,
            _gradient_of_weight(grad_rows, rows, linear) if of_weight else None,
            grad_rows.sum(0) if of_bias else None,
        )
