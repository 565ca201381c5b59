"""Checks what a model and an objective return against what they must return.

Every finding is a UserError of one line. It names the class, what it returned and what it must return.
"""

import contextlib
import posixpath
import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from evidence.distributions import Chain, SemiImplicit, has_density
from evidence.errors import UserError
from evidence.evaluation import log_ratios
from evidence.models import LatentVariableModel
from evidence.modules import scoring
from evidence.objectives import Estimate, Objective

SAMPLES = 2  # not the number of images
DRAWS, MAX_DEVIATION = 1000, 8.0  # of z; the largest error of an expectation, in standard errors
RESERVED = ("valid/", "test/", "speed/")  # the runner's own groups of metrics
METRIC_NAME = re.compile(r"[\w\-. :/]{1,200}")  # what MLflow takes


def named(part: object) -> str:
    """A class by its module and name."""
    kind = type(part)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def check_kinds(model: object, objective: object) -> None:
    """Raise UserError where they are no LatentVariableModel and no Objective, or have a part that torch.jit made."""
    for key, part, kind in ("model", model, LatentVariableModel), ("objective", objective, Objective):
        if not isinstance(part, kind):
            raise UserError(
                f"{key}._target_ gives a {named(part)}; it must give a {kind.__module__}.{kind.__name__}"
            )
        for name, each in part.named_modules(prefix=key):
            if isinstance(each, torch.jit.ScriptModule):
                raise UserError(
                    f"{name} is made by torch.jit; give the module itself, which compile=true compiles"
                )


@contextlib.contextmanager
def untouched(images: Tensor, what: str) -> Iterator[None]:
    """Raise UserError where the block changes the images in place: later code would be given other images."""
    before = images.clone()
    yield
    if not torch.equal(images, before):
        raise UserError(f"{what} changes the images in place; let it write to a copy, x.clone()")


def check_returns(model: LatentVariableModel, x: Tensor) -> None:
    """Check the shapes of what prior, posterior and likelihood return in eval mode, x [B, X]."""
    for part in (model.prior, model.likelihood, model.posterior):
        _check_forward(part)
    with torch.no_grad(), scoring(model):
        with untouched(x, named(model.posterior)):
            q = model.posterior(x)
        prior = model.prior()
        z = _checked_z(model, q, x)
        pairs, dim = [SAMPLES, len(x)], z.shape[-1]
        _require(prior, model.prior, "noise", "rsample", "log_prob")
        drawn = prior.rsample(prior.noise(SAMPLES))
        _check_shape(drawn, [SAMPLES, dim], f"z of {named(model.prior)}", "[K, D]")
        _check_shape(prior.log_prob(z), pairs, f"log p(z) of {named(model.prior)}", "[K, B]")
        p = model.likelihood(z)
        _require(p, model.likelihood, "log_prob", "mean")
        _check_shape(p.mean, [*pairs, x.shape[1]], f"mean of {named(model.likelihood)}", "[K, B, X]")
        with untouched(x, named(model.likelihood)):
            log_p = p.log_prob(x)
        _check_shape(log_p, pairs, f"log p(x | z) of {named(model.likelihood)}", "[K, B]")
        with untouched(x, f"{named(model)}.log_joint"):
            joint = model.log_joint(x, z)
        _check_shape(joint, pairs, f"{named(model)}.log_joint", "[K, B]")
        if has_density(q):
            _check_shape(model.log_weights(x, SAMPLES), pairs, f"{named(model)}.log_weights", "[K, B]")


def _checked_z(model: LatentVariableModel, q: Any, x: Tensor) -> Tensor:
    """z [K, B, D] of q(z | x). Raises: UserError where something that q returns has a wrong shape."""
    name, sizes, images = named(model.posterior), model.latent_sizes, len(x)
    density = ["rsample_and_log_prob"] if has_density(q) else []
    _require(q, model.posterior, "noise", "rsample", *density, "expectation")
    noise = q.noise(SAMPLES)
    z: Tensor = q.rsample(noise)
    dim = z.shape[-1] if isinstance(z, Tensor) and z.dim() else sum(sizes)
    _check_shape(z, [SAMPLES, images, dim], f"z of {name}", "[K, B, D]")
    if sum(sizes) != dim:
        raise UserError(
            f"{named(model)}: latent_sizes={sizes} add up to {sum(sizes)}, and must to the {dim} of z [K, B, D]"
        )
    if isinstance(q, Chain) and list(q.sizes) != list(sizes):
        raise UserError(
            f"{named(model)}: latent_sizes={list(sizes)} must be those of the posterior's layers from the data up,"
            f" {list(q.sizes)}"
        )
    _check_shape(q.expectation(SAMPLES), [images, dim], f"expectation of {name}", "[B, D]")
    if not has_density(q):
        _check_shape(q.mean(noise), [SAMPLES, images, dim], f"mean(eps) of {name}", "[K, B, D]")
        scale = [dim] if q.scale.dim() == 1 else [images, dim]
        _check_shape(q.scale, scale, f"scale of {name}", "[D] or [B, D]")
    else:
        pair = q.rsample_and_log_prob(noise)
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise UserError(
                f"rsample_and_log_prob of {name} is {_shown(pair)}; it must be z [K, B, D] and log q(z | x) [K, B]"
            )
        log_q = pair[1]
        _check_shape(log_q, [SAMPLES, images], f"log q(z | x) of {name}", "[K, B]")
    return z


def check_consistency(model: LatentVariableModel, x: Tensor) -> None:
    """Check that two ways to compute one number agree in eval mode, x [B, X].

    These are the posterior's sample, density, expectation and pullback. The log-weights also have two ways:
    training takes them from the model's own methods, and scores from prior, likelihood and posterior.
    """
    with torch.no_grad(), scoring(model):
        q, name = model.posterior(x), named(model.posterior)
        noise = q.noise(SAMPLES)
        z = q.rsample(noise)
        if not has_density(q):
            _check_pullback(q, noise, name)
        else:
            drawn, log_q = q.rsample_and_log_prob(noise)
            _check_agrees(drawn, z, f"{name}: z of rsample_and_log_prob and z of rsample")
            if hasattr(q, "log_prob"):  # it loses digits, as it computes the noise from z
                _check_agrees(q.log_prob(z), log_q, f"{name}: log_prob and rsample_and_log_prob", 0.03)
        parts = model.prior().log_prob(z) + model.likelihood(z).log_prob(x)
        joint = f"{named(model)}: log_joint, which is trained, and log p(z) + log p(x | z), which is scored,"
        _check_agrees(model.log_joint(x, z), parts, joint)
        if has_density(q):
            trained, scored = model.log_weights_at(noise, q, x), log_ratios(model, q, x, noise)[0]
            _check_agrees(
                trained, scored, f"{named(model)}: log_weights_at and the log-weights that are scored"
            )
        draws = q.rsample(q.noise(DRAWS)).double()
        found = q.expectation(DRAWS)
        error = draws.std(0) / DRAWS**0.5 + 1e-4 * (1 + found.abs())  # the latter for rounding
        if ((draws.mean(0) - found).abs() > MAX_DEVIATION * error).any():
            raise UserError(
                f"{name}: expectation is not the mean of the z that are drawn; active units are made of it"
            )


def _check_pullback(q: SemiImplicit, eps: Tensor, name: str) -> None:
    if q.pullback is None:
        return
    mean, pull = q.pullback(eps)
    cotangent = torch.randn_like(mean)
    with torch.enable_grad():
        leaf = eps.detach().requires_grad_()
        (expected,) = torch.autograd.grad(q.mean(leaf), leaf, cotangent)
    _check_agrees(mean, q.mean(eps), f"{name}: the mean that pullback gives and mean(eps)")
    _check_agrees(pull(cotangent), expected, f"{name}: the derivative by pullback and that of mean(eps)")


def check_estimate(objective: Objective, found: object, x: Tensor) -> Estimate:
    """The Estimate that an objective has returned for x [B, X]. Raises: UserError where it is not as it must be."""
    name = f"{named(objective)}.forward"
    if not isinstance(found, tuple) or len(found) != 2:
        raise UserError(f"{name} returned {_shown(found)}; it must return Estimate(surrogate [B], metrics)")
    surrogate, metrics = found
    _check_shape(surrogate, [len(x)], f"surrogate of {name}", "[B]")
    if not isinstance(metrics, Mapping) or not metrics:
        raise UserError(
            f"{name}: metrics is {_shown(metrics)}; it must be a dict with at least one metric, the one to watch first"
        )
    check_metric_names(objective, metrics)
    for key, value in metrics.items():
        is_number = isinstance(value, Tensor) and value.dim() == 0 and not value.is_complex()
        if not is_number or value.requires_grad or value.device != surrogate.device:
            raise UserError(
                f"{name}: metric '{key}' is {_shown(value)}; it must be a detached real number [] on {x.device}"
            )
    return Estimate(surrogate, dict(metrics))


def check_metric_names(objective: Objective, metrics: Mapping[Any, object]) -> None:
    """Check the names of an objective's metrics. It may bring new ones at any step.

    Raises: UserError on a name that MLflow does not take, or that the runner uses.
    """
    for key in metrics:
        _check_metric_name(key, metrics, f"{named(objective)}.forward")


def _check_metric_name(key: object, metrics: Mapping[Any, object], name: str) -> None:
    is_path = posixpath.normpath(f"train/{key}") == f"train/{key}"
    if not isinstance(key, str) or not METRIC_NAME.fullmatch(key) or not is_path:
        raise UserError(f"{name}: metric {key!r} must have a name of letters, digits and _ - . : / or spaces")
    if key.startswith(RESERVED):
        raise UserError(
            f"{name}: metric '{key}' is of a group of the runner's own ({', '.join(RESERVED)}): rename it"
        )
    if f"train/{key}" in metrics:
        raise UserError(
            f"{name}: metrics '{key}' and 'train/{key}' have the same name in a record: rename one"
        )


def _check_forward(part: nn.Module) -> None:
    if type(part).forward is nn.Module.forward:
        raise UserError(
            f"{named(part)} has no forward; it must return a distribution, such as those of evidence.distributions"
        )


def _require(found: object, module: nn.Module, *methods: str) -> None:
    missing = [name for name in methods if not hasattr(found, name)]
    if missing:
        raise UserError(
            f"{named(module)}.forward returned {_shown(found)}, which has no {' and no '.join(missing)}; it must return"
            f" a distribution with {', '.join(methods)}, such as those of evidence.distributions"
        )


def _check_shape(values: object, shape: list[int], what: str, letters: str) -> None:
    if not isinstance(values, Tensor) or list(values.shape) != shape:
        raise UserError(f"{what} is {_shown(values)}; it must be a tensor {letters} = {shape}")


def agree(found: Tensor, expected: Tensor, tolerance: float = 0.0) -> bool:
    """Whether values agree to half the digits, or to a tolerance. Sums of another length are rounded differently."""
    tolerance = tolerance or torch.finfo(expected.dtype).eps ** 0.5
    is_alike = found.shape == expected.shape
    return is_alike and torch.allclose(found, expected, tolerance, tolerance, equal_nan=True)


def _check_agrees(found: Tensor, expected: Tensor, what: str, tolerance: float = 0.0) -> None:
    if not agree(found, expected, tolerance):
        raise UserError(f"{what} differ; they must be equal")


def _shown(value: object) -> str:
    if isinstance(value, Tensor):
        graph = ", with a graph" if value.requires_grad else ""
        return f"a tensor {list(value.shape)} on {value.device}{graph}"
    return f"a {named(value)}"
