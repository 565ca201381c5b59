"""Trains from Python as from the command line."""

from collections.abc import Sequence

from evidence import project
from evidence.config import compose
from evidence.errors import UserError
from evidence.runs import lifecycle, lookup
from evidence.trained.loading import load
from evidence.trained.model import TrainedModel

FLAGS = ("--config-dir", "--config-name", "-cd", "-cn")


def run(overrides: Sequence[str]) -> TrainedModel:
    """Compute the run that these words of a command line describe, such as "k=5", and open its model.

    A finished run is not repeated, and an interrupted one goes on. The record is in paths.outputs and MLflow.
    Raises: UserError for what the user can correct.
    """
    project.find_modules()
    if flags := [word for word in overrides if word.startswith("-") and not word.startswith(FLAGS)]:
        raise UserError(f"evidence.run: takes key=value, and not {flags[0]}; a sweep is a loop over its runs")
    arguments, _ = compose.read_arguments([*overrides])
    request = compose.request(project.CONF, arguments)
    settings = request.jobs[0].settings
    if request.is_sweep or settings.plan or settings.sync:
        raise UserError("evidence.run: computes one run; sweeps, plan and sync are for the command line")
    located = lookup.locate(settings, project.root())
    lifecycle.run(settings, located)
    return load(located.directory.folder, settings.device)
