"""Says which runs one batched step can train: what their classes promise, and how runs of one form may differ."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from evidence.modules import KEPT_BY_TORCH, equal, is_users
from evidence.parts import Parts
from evidence.stacked_optimizer import is_stackable

Place = tuple[str, str]  # a module's name and its attribute, a float
Attributes = Mapping[Place, Any]


class CannotStack(Exception):
    """Why these runs cannot be trained by one step."""


def why_not(parts: Parts) -> str:
    """Why runs of these parts are not stacked, as far as their classes tell; empty where they are."""
    if not is_stackable(parts.optimizer):
        return "only torch.optim.Adam, AdamW and RMSprop without momentum are stacked"
    for module in (*parts.model.modules(), *parts.objective.modules()):
        kind = type(module)
        if isinstance(module, nn.modules.dropout._DropoutNd | nn.modules.batchnorm._BatchNorm):
            return f"{kind.__name__} draws or counts by itself"
        if is_users(module) and not vars(kind).get("is_stackable"):
            return (
                f"{kind.__name__} does not say is_stackable = True: that its state is in buffers that it writes"
                " in place, and that it draws by evidence.streams.normal and uniform"
            )
    return ""


def copied(parts: Parts) -> Parts:
    """The parts with copies of the model and the objective. Raises: CannotStack where they cannot be copied."""
    try:
        model, objective = copy.deepcopy((parts.model, parts.objective))
    except Exception as error:
        raise CannotStack(f"a copy cannot be made ({str(error).splitlines()[0]})") from error
    return parts._replace(model=model, objective=objective)


def differing_floats(rows: Sequence[nn.Module]) -> list[Place]:
    """Where the rows' submodules have floats that differ. Raises: CannotStack where anything else differs."""
    first, *others = [attributes(row) for row in rows]
    found = []
    for place, value in first.items():
        if not all(equal(other.get(place), value) for other in others):
            if type(value) is not float:
                name, key = place
                kind = type(rows[0].get_submodule(name)).__name__
                raise CannotStack(f"{kind}.{key} differs between the runs")
            found.append(place)
    return found


def attributes(module: nn.Module) -> Attributes:
    """Those of its submodules that are neither parameters nor buffers nor modules."""
    return {
        (name, key): value
        for name, part in module.named_modules()
        for key, value in vars(part).items()
        if name and key not in KEPT_BY_TORCH
    }


def changed(before: Attributes, now: Attributes) -> list[str]:
    """The names of the attributes that are other objects than before and not equal to them, or tensors anew."""
    return [
        ".".join(place)
        for place, value in now.items()
        if value is not before.get(place)
        and (isinstance(value, Tensor) or not equal(value, before.get(place)))
    ]
