"""From a resolved config to the objects of a run."""

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate

from evidence import data, training
from evidence.config.messages import describe, nearest
from evidence.config.sections.base import Section
from evidence.config.settings import Eval, Settings
from evidence.distributions import SemiImplicit
from evidence.errors import UserError
from evidence.evaluation import Plan
from evidence.models import LatentVariableModel
from evidence.numerics import forked_rng, scoring
from evidence.objectives import Objective
from evidence.records import checkpoints
from evidence.trial import interfaces


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


def build_dataset(settings: Settings, root: Path) -> data.Dataset:
    """The data set, checked; relative folders are below `root`.

    Raises: UserError where it cannot be had, or is not as it must be.
    """
    folder = settings.data.model_dump().get("folder")
    rooted = {"folder": str(root / folder)} if isinstance(folder, str) else {}
    dataset: data.Dataset = _instantiate("data", settings.data, **rooted)
    data.check(dataset, settings.data.pixels)
    return dataset


def build(settings: Settings, device: torch.device, root: Path, dataset: data.Dataset | None = None) -> Parts:
    """Dataset, where it is not given, model, objective, optimiser and schedule; the seed fixes the parameters' start.

    Relative folders are below `root`. Raises: UserError where a part cannot be built.
    """
    dataset = build_dataset(settings, root) if dataset is None else dataset
    torch.manual_seed(settings.seed)
    model = _instantiate("model", settings.model, mean_pixels=data.mean_pixels(dataset)).to(device)
    objective = _instantiate("objective", settings.objective).to(device)
    trainer = settings.trainer
    groups = training.parameter_groups(model, objective, trainer.scale_rate)
    optimizer = _instantiate("trainer.optimizer", trainer.optimizer, groups, lr=trainer.learning_rate)
    per_pass = data.steps_per_pass(dataset, trainer.batch_size)
    schedule = training.schedule(
        trainer.stages, trainer.steps, trainer.learning_rate, trainer.decay, trainer.decay_every, per_pass
    )
    return Parts(dataset, model, objective, optimizer, schedule)


def _instantiate(key: str, section: Section, *args: Any, **kwargs: Any) -> Any:
    """The object that the section describes; an error keeps its cause, without Hydra's words around it."""
    named = section.model_dump(by_alias=True, exclude={"name"})
    target = str(named["_target_"])
    try:
        return instantiate(named, *args, **kwargs, _convert_="all")
    except Exception as error:
        cause: BaseException = error
        while cause.__cause__ is not None and _is_hydras(cause):
            cause = cause.__cause__
        if isinstance(cause, UserError):
            raise cause from None
        reason = _missing(target) if isinstance(cause, ModuleNotFoundError) else None
        raise UserError(f"{key}._target_={target}: {reason or describe(cause)}") from error


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


def plan(section: Eval, parts: Parts) -> Plan:
    """How to score: the `eval` settings have an S for posteriors with a density, and S and T for the others."""
    interfaces.check_kinds(parts.model, parts.objective)
    x = parts.dataset.test[:1].to(next(parts.model.parameters()))
    with torch.no_grad(), scoring(parts.model), forked_rng(x.device, 0):
        q = parts.model.posterior(x)
    if isinstance(q, SemiImplicit):
        return Plan(section.semi_implicit.samples, section.semi_implicit.noises, section.rows)
    return Plan(section.samples, 0, section.rows)
