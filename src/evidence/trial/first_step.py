"""Takes a first step and a first score on a copy before training, so that errors of the end come at once.

Every finding is a UserError of one line. An error in a user's own lines is raised unchanged.
"""

import contextlib
import copy
import functools
import io
import numbers
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from evidence import streams, training
from evidence.distributions import has_density
from evidence.errors import UserError
from evidence.evaluation import Evaluator, Noise, evaluate, measure_whole
from evidence.models import ROWS_KEPT, LatentVariableModel
from evidence.modules import is_users, scoring, unchanged
from evidence.objectives import Objective, Weighted
from evidence.streams import forked_rng
from evidence.trial import densities, interfaces
from evidence.trial.changed import check_changed
from evidence.trial.determinism import fault_in_scoring, fault_in_training, generators
from evidence.trial.unsaved import unsaved_state
from evidence.trial.weights import check_weights

Module = TypeVar("Module", bound=nn.Module)
IMAGES = 3  # for the checks of values: more than one, to see whether they depend on each other
SCORED = 2  # images
SHARED = " (which all runs of a process share)"
SAMPLES = 3  # of each that is scored: not their number


class Tried(NamedTuple):
    """What a trial has found that does not stop a run.

    unsaved: the dotted names of what steps change and no checkpoint keeps. That is numbers that are attributes of a
      module, whatever else of a module changes the next step's value, and random generators other than torch's.
    notes: lines on what could not be checked, and on what is not trained.
    """

    unsaved: list[str]
    notes: list[str]


def check(
    model: LatentVariableModel,
    objective: Objective,
    x: Tensor,
    images: Tensor,
    evaluator: Evaluator,
    batch_size: int,
) -> Tried:
    """Take steps on the first images of x [at least IMAGES, X] and score `images` [SCORED, X], on a copy.

    Raises: UserError where a step or a score would fail, or would be wrong without failing.
    """
    interfaces.check_kinds(model, objective)
    for name, parameter in [*model.named_parameters("model"), *objective.named_parameters("objective")]:
        if is_lazy(parameter):
            raise UserError(
                f"{name} has no shape before its first use: give its module the size of its input"
            )
    training.check_layouts(model, objective)
    check_weights(objective)
    originals = [*model.parameters(), *objective.parameters()]
    with unchanged(model), unchanged(objective), forked_rng(x.device, 0):
        ours, theirs = _copied(model, objective)
        modules = {"model": ours, "objective": theirs}
        with scoring(model):  # a function that is an attribute is not copied, and may use the original
            interfaces.check_returns(ours, x)
        before, keys = _unsaved(modules), _saved(modules)
        rows, notes = _steps(ours, theirs, x[:batch_size], originals)
        after = _unsaved(modules)
        unsaved = [name for name, state in after.items() if before.get(name) != state]
        _check_saved(keys, modules)
        if not unsaved and ours is not model and theirs is not objective:
            again = dict(zip(modules, _copied(model, objective), strict=True))
            unsaved = unsaved_state(modules, again, x[:batch_size])
        _check_passes(ours, theirs, x[:IMAGES], rows)
        with scoring(model):
            notes += _check_score(ours, x[:IMAGES])
            if ours is not model and any(map(is_users, model.modules())):
                check_changed(_copy_or_itself(model), _copy_or_itself(model), x[:IMAGES])
            shorter = evaluator.fewer(SAMPLES)
            with interfaces.untouched(images, "an entry of eval.metrics"):
                scores = evaluate(ours, images, shorter, lambda count: None)
            noise = Noise(0, streams.TEST, torch.arange(len(images)))
            measure_whole(ours, theirs, images, shorter, noise, scores.metrics.keys())
    return Tried(unsaved, notes)


def _copied(model: LatentVariableModel, objective: Objective) -> tuple[LatentVariableModel, Objective]:
    """Copies of both. A part that cannot be copied, such as one with an open file, is returned itself."""
    try:
        return copy.deepcopy((model, objective))
    except Exception:
        return _copy_or_itself(model), _copy_or_itself(objective)


def _copy_or_itself(module: Module) -> Module:
    try:
        return copy.deepcopy(module)
    except Exception:
        return module


def _steps(
    model: LatentVariableModel, objective: Objective, x: Tensor, originals: list[nn.Parameter]
) -> tuple[int, list[str]]:
    """Take two steps' estimates and gradients.

    Return the most rows (image, sample) that one took with a graph, and notes. `originals` are the parameters that were
    copied. A function of the user's may still use them.
    """
    name = f"{interfaces.named(objective)}.forward"
    parameters = {*model.parameters(), *objective.parameters(), *originals}
    returned: list[list[str]] = []
    with _counted_rows(model) as counts:
        for _ in range(2):
            with interfaces.untouched(x, name):
                found = objective(model, x)
            surrogate, metrics = interfaces.check_estimate(objective, found, x)
            reached = _reached(parameters, surrogate)
            if not reached:
                raise UserError(f"{name}: no parameter is in the graph of the surrogate")
            returned.append(sorted(metrics))
    if returned[0] != returned[1]:
        both = " and then ".join(", ".join(names) for names in returned)
        raise UserError(f"{name} returned the metrics {both}; they must be the same at every step")
    _check_path(model, objective, x)
    return max(counts, default=0), _untrained(model, reached, originals)


def _untrained(
    model: LatentVariableModel, reached: set[nn.Parameter], originals: list[nn.Parameter]
) -> list[str]:
    """A note on the parameters of a user's model that no step changes."""
    named = {each: name for name, each in model.named_parameters("model") if each.requires_grad}
    names = [name for each, name in named.items() if each not in reached]
    if not names or reached & set(originals) or not any(map(is_users, model.modules())):
        return []
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return [f"the surrogate does not depend on {', '.join(names[:3])}{more}, so that no step changes it"]


def _check_path(model: LatentVariableModel, objective: Objective, x: Tensor) -> None:
    """Raise UserError where an objective of this package would take the derivative of a z that has none."""
    by_score = isinstance(objective, Weighted) and objective.derivative == "score"
    q = model.posterior(x)
    if is_users(objective) or by_score or not has_density(q) or not is_users(model.posterior):
        return
    is_trained = any(each.requires_grad for each in model.posterior.parameters())
    if is_trained and not q.rsample(q.noise(1)).requires_grad:
        raise UserError(
            f"{interfaces.named(objective)} takes the derivative of z, and z of {interfaces.named(model.posterior)} has"
            " none: choose objective=rws or tvo"
        )


def _reached(parameters: set[nn.Parameter], surrogate: Tensor) -> set[nn.Parameter]:
    """The parameters with respect to which the surrogate has a gradient."""
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    if not trained or not surrogate.requires_grad:
        return set()
    found = torch.autograd.grad(surrogate.sum(), trained, allow_unused=True)
    return {each for each, gradient in zip(trained, found, strict=True) if gradient is not None}


@contextlib.contextmanager
def _counted_rows(model: LatentVariableModel) -> Iterator[list[int]]:
    """Yield the number of rows in each call of what the model computes in pieces where they are many."""
    counts: list[int] = []
    names = ("log_weights_at", "log_likelihood_at")

    def counted(call: Callable[..., Tensor], noise: Tensor, *args: object, **kwargs: object) -> Tensor:
        counts.append(noise.shape[0] * noise.shape[1] if torch.is_grad_enabled() else 0)
        return call(noise, *args, **kwargs)

    vars(model).update({name: functools.partial(counted, getattr(model, name)) for name in names})
    try:
        yield counts
    finally:
        for name in names:
            del vars(model)[name]


def _check_passes(model: LatentVariableModel, objective: Objective, x: Tensor, rows: int) -> None:
    """Raise UserError where a step needs a value from two passes that would give different ones."""
    in_pieces = rows > ROWS_KEPT
    if (objective.passes_twice or in_pieces) and (fault := fault_in_training(model, x)):
        if objective.passes_twice:
            reason = f"{interfaces.named(objective)} computes the same values twice"
            way_out = (
                f"choose {objective.single_pass}" if objective.single_pass else "take it out of the model"
            )
        else:
            reason = f"the {rows:,} samples of a step are computed in pieces, and these twice"
            way_out = f"choose a smaller k or trainer.batch_size, of a product of at most {ROWS_KEPT:,}"
        raise UserError(f"{fault}, but {reason}: {way_out}")


def _check_score(model: LatentVariableModel, x: Tensor) -> list[str]:
    """Raise UserError where a score would depend on more than images and noise, or use another density.

    Return notes.
    """
    if fault := fault_in_scoring(model, x):
        raise UserError(
            f"{fault} in eval mode, but a score must not change with eval.rows: let it do so in training only"
        )
    interfaces.check_consistency(model, x)
    return densities.check_densities(model, x)


def _unsaved(modules: Mapping[str, nn.Module]) -> dict[str, object]:
    """The state that modules compute with and that no checkpoint keeps, by dotted name.

    Numbers of a user's classes and of their files belong to it. All runs of a process share them.
    """
    found: dict[str, object] = {
        name: state for name, state in generators(modules).items() if not name.startswith("torch")
    }
    for prefix, module in modules.items():
        for name, part in module.named_modules(prefix=prefix):
            found |= _numbers(name, part)
            if is_users(part):
                found |= _numbers(interfaces.named(part), type(part), SHARED)
                found |= _numbers(type(part).__module__, sys.modules[type(part).__module__], SHARED)
    return found


def _numbers(name: str, owner: object, remark: str = "") -> dict[str, object]:
    return {
        f"{name}.{key}{remark}": repr(value)
        for key, value in vars(owner).items()
        if isinstance(value, numbers.Number) and key != "training"
    }


def _saved(modules: Mapping[str, nn.Module]) -> set[str]:
    """The names under which a checkpoint keeps the modules."""
    return {f"{prefix}.{name}" for prefix, module in modules.items() for name in module.state_dict()}


def _check_saved(before: set[str], modules: Mapping[str, nn.Module]) -> None:
    """Raise UserError where a checkpoint could not be read back when the run is resumed."""
    after = _saved(modules)
    if after != before:
        name = min(after ^ before)
        raise UserError(
            f"{name}: a step makes or removes it; make every parameter, buffer and module in __init__"
        )
    for prefix, module in modules.items():
        if any(name.endswith("_extra_state") for name in after):
            buffer = io.BytesIO()
            try:
                torch.save(module.state_dict(), buffer)
                torch.load(io.BytesIO(buffer.getvalue()), weights_only=True)
            except Exception as error:
                raise UserError(
                    f"{prefix}: get_extra_state gives what a checkpoint cannot hold; it may give tensors, numbers,"
                    " texts, and lists and dicts of these"
                ) from error
