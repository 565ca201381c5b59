"""A finished run's parts again, as they were at the end of its training."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from evidence import checkpoints, lineage
from evidence.building import Parts, build
from evidence.errors import UserError
from evidence.record import Home
from evidence.report.frame import ROOT


class Trained(NamedTuple):
    """config.yaml, the parts at the last step, and how many steps that is."""

    config: dict[str, Any]
    parts: Parts
    steps: int


def trained(run: Mapping[str, Any], device: str = "cpu") -> Trained:
    """From a run's `folder`, absolute or below the checkout, which must hold its `record`, as report.runs says.

    Raises: UserError where it holds another or none, or where its last checkpoint is missing or damaged.
    """
    home = Home(Path(ROOT, run["folder"]))
    if home.result.get("record") != run["record"]:
        raise UserError(
            f"{home.folder} is not the record {run['record']} that MLflow has of this run: train it again,"
            " or delete the run in MLflow"
        )
    parts = build(home.settings, torch.device(device), ROOT)
    checkpoints.restore(lineage.end(home), parts.stateful, torch.device(device))
    parts.model.eval()
    return Trained(home.settings, parts, home.result["steps"])
