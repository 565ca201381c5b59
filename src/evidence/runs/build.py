"""Builds the objects of a run from the resolved config."""

import sys
from collections import defaultdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from torch import Tensor

from evidence import data, execution, parts, project, training
from evidence.config.messages import describe, nearest
from evidence.config.schema.base import Section
from evidence.config.schema.data import Data
from evidence.config.settings import Eval, Settings
from evidence.errors import UserError, is_failure
from evidence.evaluation import (
    Evaluator,
    Evaluators,
    ImportanceSampling,
    SemiImplicitSampling,
    WithMetrics,
    sizes,
)
from evidence.models import LatentVariableModel
from evidence.parts import Parts
from evidence.streams import forked_rng


def build_dataset(settings: Settings, root: Path) -> data.Dataset:
    """Build and check the data set. Relative folders are below `root`.

    Raises: UserError where the data set cannot be read, or is not as it must be.
    """
    return _dataset("data", settings.data, settings.data.pixels, root)


def other_images(settings: Settings, root: Path) -> dict[str, Tensor]:
    """The test images [N, X] of each data set in `eval.also`. Raises: UserError where one cannot be read."""
    return {
        name: _dataset(f"eval.also.{name}", section, settings.data.pixels, root).test
        for name, section in settings.eval.also.items()
    }


def _dataset(key: str, section: Data, pixels: int, root: Path) -> data.Dataset:
    folder = section.model_dump().get("folder")
    rooted = {"folder": str(root / folder)} if isinstance(folder, str) else {}
    with forked_rng(torch.device("cpu"), 0):  # a function of yours draws the same each time
        dataset: data.Dataset = _instantiate(key, section, **rooted)
    data.check(dataset, pixels)
    return dataset


def build(settings: Settings, device: torch.device, root: Path, dataset: data.Dataset | None = None) -> Parts:
    """Build the model, objective, optimizer and schedule, and the data set where it is not given.

    The seed fixes the parameters' initial values. Relative folders are below `root`.
    Raises: UserError where a part cannot be built.
    """
    dataset = build_dataset(settings, root) if dataset is None else dataset
    trainer = settings.trainer
    return parts.start(
        dataset,
        lambda mean_pixels: build_model(settings, mean_pixels),
        lambda: _instantiate("objective", settings.objective),
        lambda groups: _instantiate("trainer.optimizer", trainer.optimizer, groups, lr=trainer.learning_rate),
        lambda: training.schedule(
            trainer.stages,
            trainer.steps,
            trainer.learning_rate,
            trainer.decay,
            trainer.decay_every,
            data.steps_per_pass(dataset, trainer.batch_size),
        ),
        trainer.scale_rate,
        settings.seed,
        device,
    )


def build_model(settings: Settings, mean_pixels: Tensor) -> LatentVariableModel:
    """Build the model alone. Raises: UserError where it cannot be built."""
    model: LatentVariableModel = _instantiate("model", settings.model, mean_pixels=mean_pixels)
    return model


def evaluators(section: Eval, device: torch.device) -> Evaluators:
    """How to score: the `eval` settings have an S for posteriors with a density, and S and T for the others."""
    semi, rows = section.semi_implicit, section.rows or sizes(device).rows
    return Evaluators(
        ImportanceSampling(section.samples, rows), SemiImplicitSampling(semi.samples, semi.noises, rows)
    )


def compiled(
    evaluator: Evaluator,
    setting: bool | Literal["auto"],
    model: LatentVariableModel,
    num_images: int,
    device: torch.device,
) -> Evaluator:
    """The evaluator, compiled where that saves time for so many images and is possible. `setting` is `compile`."""
    if isinstance(evaluator, WithMetrics):
        inner = compiled(evaluator.evaluator, setting, model, num_images, device)
        return evaluator._replace(evaluator=inner)
    if setting is False or not isinstance(evaluator, ImportanceSampling):
        return evaluator
    is_long = num_images * evaluator.num_samples >= execution.PAYING_PAIRS
    pays = is_long and device.type == "cpu"  # a GPU scores all test images in a second
    return evaluator._replace(compiled=execution.wants_compiling("auto", [model], pays))


def with_metrics(evaluator: Evaluator, section: Eval) -> Evaluator:
    """The evaluator, with the metrics in `eval.metrics` where there are any."""
    made = {key: _instantiate(f"eval.metrics.{key}", each) for key, each in section.metrics.items()}
    return WithMetrics(evaluator, made, defaultdict(float)) if made else evaluator


def _instantiate(key: str, section: Section, *args: Any, **kwargs: Any) -> Any:
    """The object that the section describes. An error keeps its cause, without what Hydra adds to it."""
    named = section.model_dump(by_alias=True, exclude={"name"})
    target = str(named["_target_"])
    try:
        return instantiate(named, *args, **kwargs, _convert_="all")
    except BaseException as error:
        if not is_failure(error):
            raise
        cause: BaseException = error
        while cause.__cause__ is not None and _is_hydras(cause):
            cause = cause.__cause__
        if isinstance(cause, UserError):
            raise cause from None
        reason = _missing(target) if isinstance(cause, ModuleNotFoundError) else None
        raise UserError(f"{key}._target_={target}: {reason or describe(cause)}") from error


def _is_hydras(error: BaseException) -> bool:
    """Whether this error of Hydra's only repeats its cause."""
    is_locating = isinstance(error, ImportError) and str(error).startswith("Error loading ")
    return is_locating or isinstance(error, InstantiationException)


def _missing(target: str) -> str | None:
    """What is missing of the target. None where the target is there, and it imports something that is missing."""
    module, _, name = target.rpartition(".")
    if module in sys.modules:
        match = nearest(name, dir(sys.modules[module]))
        hint = f": did you mean '{match}'?" if match else ""
        return f"{module} has no '{name}'{hint}"
    top = target.partition(".")[0]
    return None if find_spec(top) else f"there is no module '{top}' in {project.root()}, and no installed one"
