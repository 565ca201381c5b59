"""A finished run's parts again, as they were at the end of its training."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from evidence.config.settings import Settings, validate
from evidence.errors import UserError
from evidence.records import checkpoints
from evidence.records.directory import RunDirectory
from evidence.report.frame import ROOT
from evidence.runs import resume
from evidence.runs.build import Parts, build


class Trained(NamedTuple):
    """The settings, the parts at the last step, and how many steps that is."""

    settings: Settings
    parts: Parts
    steps: int


def trained(run: Mapping[str, Any], device: str = "cpu") -> Trained:
    """From a run's `folder`, absolute or below the checkout, which must hold its `record`, as report.runs says.

    Raises: UserError where it holds another or none, or where its last checkpoint is missing or damaged.
    """
    directory = RunDirectory(Path(ROOT, run["folder"]))
    if directory.result.get("record") != run["record"]:
        raise UserError(
            f"{directory.folder} is not the record {run['record']} that MLflow has of this run: train it again,"
            " or delete the run in MLflow"
        )
    settings = validate(directory.settings)
    parts = build(settings, torch.device(device), ROOT)
    checkpoints.restore(resume.end(directory), parts.stateful, torch.device(device))
    parts.model.eval()
    return Trained(settings, parts, directory.result["steps"])
