"""From a resolved config to the objects of a run."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from torch import Tensor

from evidence import checkpoints, data, training
from evidence.distributions import SemiImplicit
from evidence.errors import UserError
from evidence.evaluation import Plan
from evidence.models import LatentVariableModel
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


def build(config: dict[str, Any], device: torch.device, root: Path) -> Parts:
    """Dataset, model, objective, optimiser and schedule; the seed fixes the parameters' start.

    Relative folders are below `root`."""
    dataset: data.Dataset = _instantiate(_rooted(config["data"], root))
    torch.manual_seed(config["seed"])
    model = _instantiate(config["model"], mean_pixels=data.mean_pixels(dataset)).to(device)
    objective = _instantiate(config["objective"]).to(device)
    trainer = config["trainer"]
    groups = training.parameter_groups(model, objective, trainer["scale_rate"])
    optimizer = _instantiate(trainer["optimizer"], groups, lr=trainer["learning_rate"])
    if trainer["stages"] is not None:
        per_pass = data.steps_per_pass(dataset, trainer["batch_size"])
        schedule = training.staged_schedule(trainer["stages"], per_pass, trainer["learning_rate"])
    else:
        decay, every = trainer["decay"] or 1.0, trainer["decay_every"] or trainer["steps"]
        schedule = training.decayed_schedule(trainer["steps"], trainer["learning_rate"], decay, every)
    return Parts(dataset, model, objective, optimizer, schedule)


def _instantiate(section: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
    named = {key: value for key, value in section.items() if key != "name"}
    try:
        return instantiate(named, *args, **kwargs, _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, UserError):  # what the user can mend, without Hydra's words around it
            raise error.__cause__ from None
        raise


def _rooted(section: dict[str, Any], root: Path) -> dict[str, Any]:
    return section | {"folder": str(root / section["folder"])} if "folder" in section else section


def plan(section: dict[str, Any], parts: Parts) -> Plan:
    """How to score: the config's `eval` section has an S for posteriors with a density, and S and T for the others."""
    x = parts.dataset.test[:1].to(next(parts.model.parameters()))
    if isinstance(parts.model.posterior(x), SemiImplicit):
        semi = section["semi_implicit"]
        return Plan(semi["samples"], semi["noises"], section["rows"])
    return Plan(section["samples"], 0, section["rows"])


def evenly_spaced(images: Tensor, count: int | None) -> Tensor:
    """`count` images spread evenly over the set, in its order."""
    if count is None or count >= len(images):
        return images
    return images[torch.arange(count) * len(images) // count]
