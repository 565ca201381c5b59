"""Checks that a model's values are a function of the images and the noise, each pair of them by itself.

Objectives that compute a value twice need this. Scores need it too, since their samples and images are processed in
pieces of any size. The check runs the model, whatever its classes are called. It may change the model, so it is
given a copy.
"""

import contextlib
import functools
import pickle
import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from evidence.distributions import has_density
from evidence.models import LatentVariableModel
from evidence.modules import same_numbers, scoring
from evidence.trial.interfaces import agree

Values = list[Tensor]  # each [K, B, ...]
SAMPLES = 3
HIDDEN_SCALE = 0.1  # of the random values that replace parameters that are zero


def fault_in_training(model: LatentVariableModel, x: Tensor) -> str:
    """What keeps values in the model's present mode from being a function of q(z | x) and noise, as text; x [B, X].

    The text is empty where all of this holds: no submodule draws random numbers or changes a buffer; the same noise
    gives the same values; and a sample of one image does not change with the samples beside it.
    """
    # Row k of image b moves to row k - b, so that each value is computed beside other rows.
    rows = (torch.arange(SAMPLES - 1)[:, None] + torch.arange(len(x))) % SAMPLES
    with torch.no_grad():
        return _fault(
            model, x, rows, "a sample a value that depends on the samples beside it", may_change=False
        )


def fault_in_scoring(model: LatentVariableModel, x: Tensor) -> str:
    """What keeps values in eval mode from being a function of an image and its noise alone, as text; x [B, X].

    The text is empty where all of this holds: no submodule draws random numbers; the same noise gives the same
    values; and these do not change with the images and samples beside them.
    """
    rows = torch.arange(SAMPLES - 1)[:, None].expand(-1, len(x) - 1)
    with torch.no_grad(), scoring(model):
        return _fault(model, x, rows, "an image a value that depends on what is beside it", may_change=True)


def generators(modules: Mapping[str, nn.Module]) -> dict[str, bytes]:
    """The states of random generators: the global ones by library, and those in the modules by dotted name."""
    states = {
        "torch": torch.get_rng_state().numpy().tobytes(),
        "random": pickle.dumps(random.getstate()),
        "numpy.random": pickle.dumps(np.random.get_state()),
    }
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        states["torch.cuda"] = b"".join(each.numpy().tobytes() for each in torch.cuda.get_rng_state_all())
    for prefix, module in modules.items():
        for name, part in module.named_modules(prefix=prefix):
            for attribute, value in vars(part).items():
                if isinstance(value, torch.Generator):
                    states[f"{name}.{attribute}"] = value.get_state().numpy().tobytes()
                elif isinstance(value, random.Random | np.random.Generator | np.random.RandomState):
                    states[f"{name}.{attribute}"] = pickle.dumps(value)
    return states


def _fault(model: LatentVariableModel, x: Tensor, rows: Tensor, beside: str, may_change: bool) -> str:
    """The fault that x [B, X] shows by itself, or else its first images with the samples `rows` [K', B'] of each.

    `beside` is what the latter means. `may_change` says whether a forward pass may change buffers.
    """
    _show_hidden(model)
    q = model.posterior(x)
    noise = noise_of(q)
    values_at(model, q, x, noise)  # sets what a module sets at its first pass, or for these sizes
    locked = {name: tensor.clone() for name, tensor in _held(model)}
    before = generators({"model": model})
    with _watched(model) as drawing:
        values = values_at(model, model.posterior(x), x, noise)
    if generators({"model": model}) != before:
        return f"{drawing[0] if drawing else 'a distribution of the model'} draws random numbers of its own"
    changed = [
        name for name, tensor in _held(model) if name not in locked or not same_numbers(locked[name], tensor)
    ]
    if changed and not may_change:
        return f"{changed[0]} changes in a forward pass"
    if not all(map(agree, values_at(model, model.posterior(x), x, noise), values)):
        return "the model gives two values for the same images and noise"
    fewer = x[: rows.shape[1]]
    others = values_at(model, model.posterior(fewer), fewer, [_taken(each, rows) for each in noise])
    if all(map(agree, others, [_taken(each, rows) for each in values])):
        return ""
    return f"{_dependent(model, x, noise)} gives {beside}"


def noise_of(q: Any) -> list[Tensor]:
    """The noise that a sample is a function of, [K, B, ...] each.

    A semi-implicit q has also the noise of q(z | eps, x).
    """
    noise = q.noise(SAMPLES)
    return [noise, torch.randn_like(q.mean(noise))] if not has_density(q) else [noise]


def values_at(model: LatentVariableModel, q: Any, x: Tensor, noise: list[Tensor]) -> Values:
    """z, its log density and log p(x, z), of the noise [K, B, ...].

    For a semi-implicit q the log density is that given eps.
    """
    if not has_density(q):
        z, log_q = q.conditional(noise[0]).rsample_and_log_prob(noise[1])
    else:
        z, log_q = q.rsample_and_log_prob(noise[0])
    return [z, log_q, model.log_joint(x, z)]


def _show_hidden(model: LatentVariableModel) -> None:
    """Replace parameters that are zero. A zero weight would hide the layers before it."""
    for parameter in model.parameters():
        if parameter.is_floating_point() and not parameter.any():
            parameter.normal_(0.0, HIDDEN_SCALE)


def _held(model: LatentVariableModel) -> Iterator[tuple[str, Tensor]]:
    yield from model.named_parameters("model")
    yield from model.named_buffers("model")


def _taken(values: Tensor, rows: Tensor) -> Tensor:
    """values[rows[k, b], b]: [K, B, ...] -> [K', B', ...]."""
    return values[rows.to(values.device), torch.arange(rows.shape[1], device=values.device)]


@contextlib.contextmanager
def _watched(model: LatentVariableModel) -> Iterator[list[str]]:
    """Yield the submodules whose forward moves a random generator, the innermost first."""
    drawing: list[str] = []
    states: list[dict[str, bytes]] = []

    def begin(module: nn.Module, args: Any) -> None:
        states.append(generators({"model": model}))

    def end(name: str, module: nn.Module, args: Any, output: Any) -> None:
        if states.pop() != generators({"model": model}):
            drawing.append(name)

    with contextlib.ExitStack() as hooks:
        for part in model.modules():
            hooks.enter_context(part.register_forward_pre_hook(begin))
        _hook(hooks, model, end)
        yield drawing


def _hook(hooks: contextlib.ExitStack, model: LatentVariableModel, end: Callable[..., None]) -> None:
    """Call `end` after each submodule's forward, with the submodule's name and class in front."""
    for name, part in model.named_modules(prefix="model"):
        called = functools.partial(end, f"{name} ({type(part).__name__})")
        hooks.enter_context(part.register_forward_hook(called))


def _dependent(model: LatentVariableModel, x: Tensor, noise: list[Tensor]) -> str:
    """The innermost submodule whose output changes with the rows beside a row, or else "the model"."""
    found: list[str] = []

    def compare(name: str, module: nn.Module, args: Any, output: Any) -> None:
        is_plain = len(args) == 1 and all(isinstance(each, Tensor) for each in (*args, output))
        if found or not is_plain or len(args[0]) < SAMPLES or len(output) != len(args[0]):
            return
        found.append(name)  # stops the other hooks meanwhile
        differs = False
        with contextlib.suppress(Exception):  # it may need this number of rows
            differs = not agree(module(args[0][:-1]), output[:-1])
        if not differs:
            found.clear()

    with contextlib.ExitStack() as hooks:
        _hook(hooks, model, compare)
        values_at(model, model.posterior(x), x, noise)
    return found[0] if found else "the model"
