"""Builds the model of a run from config.yaml, and gives it the parameters of the run's last checkpoint.

No data is read. A model is given the mean pixels of its training images, as the checkpoint keeps them.
"""

import math
import pickle
import tempfile
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch
from torch import Tensor

from evidence import execution, project, tracking
from evidence.config import messages
from evidence.config.settings import Settings, completed, validate
from evidence.display import terminal
from evidence.errors import UserError
from evidence.models import LatentVariableModel
from evidence.records.checkpoints import Checkpoint
from evidence.records.directory import RunDirectory
from evidence.records.identity import VERSION
from evidence.records.lineage import end, latest_checkpoint
from evidence.records.record import Record, training_code
from evidence.runs import build, provenance
from evidence.streams import forked_rng
from evidence.tracking import logged_model
from evidence.trained.finding import NotHere, find
from evidence.trained.model import TrainedModel

FETCHED = ("config.yaml", "metrics.csv", "result.json")  # from MLflow, beside the model


def load(run: str | Path, device: Literal["auto", "cpu", "cuda"] = "auto") -> TrainedModel:
    """Open the model of a run: its folder, the folder's name in outputs/, or its MLflow run id.

    A finished run has its last parameters, another one those of its latest checkpoint. No data is fetched. Where the
    folder of an MLflow run is not here, the model is the one in MLflow.
    Raises: UserError where the run or its checkpoint is missing, damaged or of an earlier version, or where the
    model cannot be built.
    """
    project.find_modules()
    try:
        directory = find(run)
    except NotHere as missing:
        return _of_mlflow(str(run), device, missing)
    record = directory.read() or Record()
    if record.identity_version != VERSION:
        raise UserError(f"{directory.folder} was made by an earlier version of evidence: load it with that")
    config = directory.settings
    try:
        settings = validate(config)
    except UserError as error:
        raise UserError(f"{directory.config}: {error}") from None
    _note_other_code(settings, record)
    found = _checkpoint(directory, record)
    where = execution.choose_device(device, 0)
    state = found.state
    model = _model(settings, state["model"], state.get("mean_pixels"), str(found.path)).to(where).eval()
    committed = None if record.status == "FINISHED" else state["metrics_size"]
    history = pd.DataFrame(directory.read_metrics(committed), columns=["name", "value", "step"])
    shape = _image_shape(settings, record)
    return TrainedModel(directory.folder, found.step, model, settings, shape, record.metrics, history, where)


def _of_mlflow(run_id: str, device: Literal["auto", "cpu", "cuda"], missing: NotHere) -> TrainedModel:
    """The model of a finished run as MLflow has it. Its folder is the one that is not here."""
    with tempfile.TemporaryDirectory() as place:
        directory, root = RunDirectory(Path(place)), project.root()
        found = tracking.download(root, run_id, (logged_model.MODEL, *FETCHED), directory.folder)
        if found is None:
            raise missing
        record, settings = directory.read() or Record(), validate(directory.settings)
        _note_other_code(settings, record)
        try:
            with torch.serialization.safe_globals([rebuilt]):  # no other pickled code is run
                model = torch.load(found[logged_model.MODEL], weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, OSError, EOFError) as error:
            raise UserError(
                f"the model of the MLflow run {run_id} cannot be read ({messages.one_line(str(error))[:200]})"
            ) from error
        history = pd.DataFrame(directory.read_metrics(), columns=["name", "value", "step"])
    where, folder = execution.choose_device(device, 0), root / record.folder
    shape = _image_shape(settings, record)
    return TrainedModel(
        folder, record.steps, model.to(where), settings, shape, record.metrics, history, where
    )


def _image_shape(settings: Settings, record: Record) -> tuple[int, int] | None:
    """Height and width. An earlier version did not record them: its images are square, or may have any sides."""
    side = math.isqrt(settings.data.pixels)
    if record.image_shape:
        height, width = record.image_shape
        return height, width
    return (side, side) if side * side == settings.data.pixels else None


def _note_other_code(settings: Settings, record: Record) -> None:
    """Say where the code has changed since the run was trained: the model may compute other numbers."""
    now = training_code(provenance.code(settings.model_dump(by_alias=True)))
    if changes := provenance.difference(record.training_code, now):
        terminal.note(
            f"{record.run} was trained by other code ({changes}): its numbers here may differ from its metrics"
        )


def _checkpoint(directory: RunDirectory, record: Record) -> Checkpoint:
    """The end of a finished run, which another run of its path may have. The latest of an unfinished one."""
    found = latest_checkpoint([directory], record.steps)
    if record.status == "FINISHED" and (found is None or found.step != record.steps):
        return end(directory)
    if found is None:
        raise UserError(
            f"{directory.folder} has no checkpoint that can be read, and its run is {record.status}"
        )
    return found


def rebuilt(
    config: dict[str, Any], parameters: dict[str, Any], mean_pixels: Tensor | None = None
) -> LatentVariableModel:
    """The model of a run's settings with these parameters, as mlflow.pytorch.load_model opens it.

    Raises: UserError where it cannot be built.
    """
    project.find_modules()
    return _model(validate(completed(config)), parameters, mean_pixels, "the parameters in MLflow").eval()


def _model(
    settings: Settings, parameters: dict[str, Any], mean_pixels: Tensor | None, source: str
) -> LatentVariableModel:
    """The model with these parameters. A checkpoint of an earlier version has no mean pixels: they are NaN then.

    Raises: UserError where the model keeps such NaN, since its numbers would be others.
    """
    if mean_pixels is None:
        mean_pixels = torch.full((settings.data.pixels,), torch.nan)
    with forked_rng(torch.device("cpu"), settings.seed):  # as the run began: parts.start
        model = build.build_model(settings, mean_pixels)
    try:
        model.load_state_dict(parameters)
    except RuntimeError as error:
        reason = messages.one_line(str(error))
        raise UserError(
            f"{source} does not suit model._target_={settings.model.built_by}: {reason}"
        ) from None
    for name, part in model.named_modules():
        for key, value in {**vars(part), **part._parameters, **part._buffers}.items():
            if isinstance(value, Tensor) and value.is_floating_point() and value.isnan().any():
                raise UserError(
                    f"model._target_={settings.model.built_by}: {name or 'the model'} keeps mean_pixels in '{key}',"
                    " which a checkpoint of an earlier version does not have: train again"
                )
    return model
