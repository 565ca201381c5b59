"""A first step and a first score, taken on a copy before training begins: what would fail at the end fails at once.

Every finding is a UserError, one line. An error that a user's own lines raise passes through as it is.
"""

import contextlib
import copy
import numbers
import random
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from evidence import forms, training
from evidence.determinism import fault_in_scoring, fault_in_training, generators
from evidence.errors import UserError
from evidence.evaluation import Plan, evaluate
from evidence.models import ROWS_KEPT, LatentVariableModel
from evidence.numerics import forked_rng, scoring, unchanged
from evidence.objectives import Objective

IMAGES = 3  # of a step here: few, but more than one, which a normalisation over the batch could not take
SCORED = 2  # images, and samples of each


def check(
    model: LatentVariableModel, objective: Objective, x: Tensor, images: Tensor, plan: Plan, batch_size: int
) -> list[str]:
    """Take two steps on x [IMAGES, X] and score images [SCORED, X], on a copy: nothing of the run changes.

    Returns the dotted names of what steps change and no checkpoint keeps: numbers that are attributes of a module, and
    random generators other than torch's own.
    Raises: UserError where a step or a score would fail, or would be wrong without failing.
    """
    forms.check_kinds(model, objective)
    for name, parameter in [*model.named_parameters("model"), *objective.named_parameters("objective")]:
        if is_lazy(parameter):
            raise UserError(
                f"{name} has no shape before its first use: give its module the size of its input"
            )
    training.check_layouts(model, objective)
    originals = [*model.parameters(), *objective.parameters()]
    with unchanged(model), unchanged(objective), forked_rng(x.device, 0), _other_generators_kept():
        ours, theirs = _copied(model, objective)
        modules = {"model": ours, "objective": theirs}
        with scoring(model):  # a function that is an attribute is shared, and may refer to the original
            forms.check_returns(ours, x)
        before = _unsaved(modules)
        samples = _steps(ours, theirs, x, originals)
        after = _unsaved(modules)
        _check_passes(ours, theirs, x, samples, batch_size)
        with scoring(model):
            _check_score(ours, x)
            few = plan._replace(num_samples=SCORED, num_noises=min(plan.num_noises, SCORED), compiled=False)
            evaluate(ours, images, few, lambda count: None)
    return [name for name, state in after.items() if before.get(name) != state]


def _copied(model: LatentVariableModel, objective: Objective) -> tuple[LatentVariableModel, Objective]:
    """Copies, or where a user's attribute cannot be copied, such as an open file, the originals."""
    try:
        return copy.deepcopy((model, objective))
    except Exception:
        return model, objective


def _steps(model: LatentVariableModel, objective: Objective, x: Tensor, originals: list[nn.Parameter]) -> int:
    """Take two steps' estimates and gradients; the most samples whose log-weights one has taken with a graph.

    `originals` are the parameters that were copied, which a function of the user's may still refer to.
    """
    name = f"{forms.named(objective)}.forward"
    parameters = {p for p in [*model.parameters(), *objective.parameters(), *originals] if p.requires_grad}
    returned: list[list[str]] = []
    with _counted_samples(model) as counts:
        for batch in x, x[:-1]:  # of two sizes: a shape that is right for one may be so by chance
            surrogate, metrics = forms.check_estimate(objective, objective(model, batch), batch)
            if not surrogate.requires_grad or not _is_reached(list(parameters), surrogate):
                raise UserError(f"{name}: no parameter is in the graph of the surrogate")
            returned.append(sorted(metrics))
    if returned[0] != returned[1]:
        both = " and then ".join(", ".join(names) for names in returned)
        raise UserError(f"{name} returned the metrics {both}; they must be the same at every step")
    return max(counts, default=0)


def _is_reached(parameters: list[nn.Parameter], surrogate: Tensor) -> bool:
    """Whether the surrogate has a gradient with respect to any of the parameters."""
    found = torch.autograd.grad(surrogate.sum(), parameters, allow_unused=True) if parameters else ()
    return any(gradient is not None for gradient in found)


@contextlib.contextmanager
def _counted_samples(model: LatentVariableModel) -> Iterator[list[int]]:
    """How many samples go into each call of what the model computes in pieces where they are many."""
    counts: list[int] = []
    kept = {name: getattr(model, name) for name in ("log_weights_at", "log_likelihood_at")}

    def counted(name: str) -> Callable[..., Tensor]:
        def call(noise: Tensor, *args: object, **kwargs: object) -> Tensor:
            counts.append(len(noise) if torch.is_grad_enabled() else 0)
            return kept[name](noise, *args, **kwargs)

        return call

    vars(model).update({name: counted(name) for name in kept})
    try:
        yield counts
    finally:
        for name in kept:
            del vars(model)[name]


def _check_passes(
    model: LatentVariableModel, objective: Objective, x: Tensor, samples: int, batch_size: int
) -> None:
    """Raises UserError where a step needs a value from two passes that would not give the same."""
    in_pieces = samples * batch_size > ROWS_KEPT
    if (objective.passes_twice or in_pieces) and (fault := fault_in_training(model, x)):
        if objective.passes_twice:
            reason = f"{forms.named(objective)} computes the same values twice"
            way_out = (
                f"choose {objective.single_pass}" if objective.single_pass else "take it out of the model"
            )
        else:
            reason = f"{samples} samples of {batch_size} images are computed in pieces, and these twice"
            way_out = f"choose a smaller k or trainer.batch_size, of a product of at most {ROWS_KEPT:,}"
        raise UserError(f"{fault}, but {reason}: {way_out}")


def _check_score(model: LatentVariableModel, x: Tensor) -> None:
    """Raises UserError where a score would depend on more than images and noise, or on another density."""
    if fault := fault_in_scoring(model, x):
        raise UserError(
            f"{fault} in eval mode, but a score must not change with eval.rows: let it do so in training only"
        )
    forms.check_consistency(model, x)


def _unsaved(modules: Mapping[str, nn.Module]) -> dict[str, object]:
    """What the modules compute with and no checkpoint keeps, by dotted names."""
    found: dict[str, object] = {
        name: state for name, state in generators(modules).items() if not name.startswith("torch")
    }
    for prefix, module in modules.items():
        for name, part in module.named_modules(prefix=prefix):
            found |= {
                f"{name}.{key}": repr(value)
                for key, value in vars(part).items()
                if isinstance(value, numbers.Number) and key != "training"
            }
    return found


@contextlib.contextmanager
def _other_generators_kept() -> Iterator[None]:
    """Python's and NumPy's global generators go on as if nothing had been drawn."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
