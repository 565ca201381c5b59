"""A finished run's parts again, as they were at the end of its training."""

from pathlib import Path
from typing import Any, NamedTuple

import torch

from evidence import checkpoints
from evidence.building import Parts, build
from evidence.record import Home
from evidence.report.frame import ROOT


class Trained(NamedTuple):
    """config.yaml, the parts at the last step, and how many steps that is."""

    config: dict[str, Any]
    parts: Parts
    steps: int


def trained(folder: str, device: str = "cpu") -> Trained:
    """From a run's folder, absolute or below the checkout, as the column `folder` of report.runs says."""
    home = Home(Path(ROOT, folder))
    steps = home.result["steps"]
    parts = build(home.settings, torch.device(device), ROOT)
    state = checkpoints.load(home.checkpoints()[steps])
    checkpoints.restore(state, parts.stateful, torch.device(device))
    parts.model.eval()
    return Trained(home.settings, parts, steps)
