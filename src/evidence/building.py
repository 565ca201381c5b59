"""From a resolved config to the objects of a run."""

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from torch import Tensor

from evidence import checkpoints, data, forms, training
from evidence.complaints import nearest
from evidence.distributions import SemiImplicit
from evidence.errors import UserError, one_line
from evidence.evaluation import Plan
from evidence.models import LatentVariableModel
from evidence.numerics import forked_rng, scoring
from evidence.objectives import Objective


class Parts(NamedTuple):
    """What a run is built of."""

    dataset: data.Dataset
    model: LatentVariableModel
    objective: Objective
    optimizer: torch.optim.Optimizer
    schedule: list[training.Segment]

    @property
    def stateful(self) -> dict[str, checkpoints.Stateful]:
        """Everything that training changes."""
        return {"model": self.model, "objective": self.objective, "optimizer": self.optimizer}


def build_dataset(config: dict[str, Any], root: Path) -> data.Dataset:
    """The data set of a resolved config, checked; relative folders are below `root`.

    Raises: UserError where it cannot be had, or is not as it must be.
    """
    section = config["data"]
    rooted = section | {"folder": str(root / section["folder"])} if "folder" in section else section
    dataset: data.Dataset = _instantiate("data", rooted)
    data.check(dataset, section["pixels"])
    return dataset


def build(
    config: dict[str, Any], device: torch.device, root: Path, dataset: data.Dataset | None = None
) -> Parts:
    """Dataset, where it is not given, model, objective, optimiser and schedule; the seed fixes the parameters' start.

    Relative folders are below `root`. Raises: UserError where a part cannot be built.
    """
    dataset = build_dataset(config, root) if dataset is None else dataset
    torch.manual_seed(config["seed"])
    model = _instantiate("model", config["model"], mean_pixels=data.mean_pixels(dataset)).to(device)
    objective = _instantiate("objective", config["objective"]).to(device)
    trainer = config["trainer"]
    groups = training.parameter_groups(model, objective, trainer["scale_rate"])
    optimizer = _instantiate("trainer.optimizer", trainer["optimizer"], groups, lr=trainer["learning_rate"])
    per_pass = data.steps_per_pass(dataset, trainer["batch_size"])
    if trainer["stages"] is not None:
        schedule = training.staged_schedule(trainer["stages"], per_pass, trainer["learning_rate"])
    else:
        decay, every = trainer["decay"] or 1.0, trainer["decay_every"] or trainer["steps"]
        schedule = training.decayed_schedule(trainer["steps"], trainer["learning_rate"], decay, every)
    return Parts(dataset, model, objective, optimizer, schedule)


def _instantiate(key: str, section: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
    """The object that the section describes; an error keeps its cause, without Hydra's words around it."""
    named = {name: value for name, value in section.items() if name != "name"}
    try:
        return instantiate(named, *args, **kwargs, _convert_="all")
    except Exception as error:
        cause: BaseException = error
        while cause.__cause__ is not None and _is_hydras(cause):
            cause = cause.__cause__
        if isinstance(cause, UserError):
            raise cause from None
        reason = _missing(section["_target_"]) if isinstance(cause, ModuleNotFoundError) else None
        raise UserError(f"{key}._target_={section['_target_']}: {reason or one_line(cause)}") from error


def _is_hydras(error: BaseException) -> bool:
    """Whether Hydra says in other words what another error has said before."""
    is_locating = isinstance(error, ImportError) and str(error).startswith("Error loading ")
    return is_locating or isinstance(error, InstantiationException)


def _missing(target: str) -> str | None:
    """What is missing of the target, where it is not a module that another one imports."""
    module, _, name = target.rpartition(".")
    if module in sys.modules:
        match = nearest(name, dir(sys.modules[module]))
        hint = f": did you mean '{match}'?" if match else ""
        return f"{module} has no '{name}'{hint}"
    top = target.partition(".")[0]
    return None if find_spec(top) else f"there is no module '{top}' beside run.py, and no installed one"


def plan(section: dict[str, Any], parts: Parts) -> Plan:
    """How to score: the config's `eval` section has an S for posteriors with a density, and S and T for the others."""
    forms.check_kinds(parts.model, parts.objective)
    x = parts.dataset.test[:1].to(next(parts.model.parameters()))
    with torch.no_grad(), scoring(parts.model), forked_rng(x.device, 0):
        q = parts.model.posterior(x)
    if isinstance(q, SemiImplicit):
        semi = section["semi_implicit"]
        return Plan(semi["samples"], semi["noises"], section["rows"])
    return Plan(section["samples"], 0, section["rows"])


def evenly_spaced(images: Tensor, count: int | None) -> Tensor:
    """`count` images spread evenly over the set, in its order."""
    if count is None or count >= len(images):
        return images
    return images[evenly_spaced_rows(len(images), count)]


def evenly_spaced_rows(total: int, count: int | None) -> Tensor:
    """Which of `total` images `evenly_spaced` takes, int64 [count]."""
    count = total if count is None else min(count, total)
    return torch.arange(count) * total // count
