"""Steps as one fused graph, by torch.compile, with the random numbers that the lines themselves draw, to rounding."""

import itertools
import time
import warnings
from collections.abc import Callable
from logging import ERROR, getLogger
from typing import Any, TypeVar

import torch

from evidence.errors import UserError
from evidence.streams import Stream

Result = TypeVar("Result")
MAX_GRAPHS = 10_000  # of one function: a sweep may have any number of architectures, and torch allows eight


def compiled(differentiate: Callable[..., Result]) -> Callable[..., Result]:
    """The same function, whose forward and backward passes are one graph, made when it is first called."""
    graph = fused_step(differentiate)

    def call(*given: Any, stream: Stream | None = None) -> Result:
        *_, x, _ = given
        tensors = stream and stream.tensors(x.device)  # an int would be compiled in
        return graph(*given, stream=tensors)

    return call


def fused_step(step: Callable[..., Result]) -> Callable[..., Result]:
    """A function that calls torch.autograd.grad, as one graph. The log says how long the first call took.

    Raises: UserError at the first call where torch cannot compile it.
    """
    torch._dynamo.config.trace_autograd_ops = True  # torch.autograd.grad too
    getLogger("torch.utils.cpp_extension").setLevel(ERROR)  # that there is no GPU
    graph = fused(step, {"fallback_random": True, "cpp_wrapper": not torch.cuda.is_available()})
    calls = itertools.count()

    def call(*given: Any, **named: Any) -> Result:
        began, is_first = time.monotonic(), next(calls) == 0
        try:
            result = graph(*given, **named)
        except torch._dynamo.exc.TorchDynamoException as error:
            cause = getattr(error, "inner_exception", None) or error.__cause__ or error
            why = str(cause).strip().splitlines()[0]
            raise UserError(
                f"torch cannot compile a step of this run ({why}): choose compile=false"
            ) from error
        if is_first:
            getLogger("evidence").info("compiled in %.1f s", time.monotonic() - began)
        return result

    return call


def fused(function: Callable[..., Result], options: dict[str, Any] | None = None) -> Callable[..., Result]:
    """`function` as one compiled graph, made when it is called, anew for each architecture and each shape."""
    limits: Any = torch._dynamo.config
    limits.recompile_limit = limits.accumulated_recompile_limit = MAX_GRAPHS
    graph = torch.compile(function, fullgraph=True, dynamic=False, options=options)

    calls = itertools.count()

    def call(*given: Any, **named: Any) -> Result:
        if next(calls):
            return graph(*given, **named)
        # torch 2.11 warns of its own lines, and of a GPU's TF32. In each call this would show again what a user's
        # code warns of once.
        with warnings.catch_warnings(action="ignore"):
            return graph(*given, **named)

    return call
