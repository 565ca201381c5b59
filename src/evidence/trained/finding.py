"""Finds the folder of a run by its path, its name or its MLflow run id."""

import re
from pathlib import Path

from evidence import project, tracking
from evidence.config import messages
from evidence.errors import UserError
from evidence.records.directory import RunDirectory, stored

OUTPUTS = "outputs"  # the default of paths.outputs
RUN_ID = re.compile(r"[0-9a-f]{32}")


class NotHere(UserError):
    """MLflow knows the run, but its folder is not here."""


def find(run: str | Path) -> RunDirectory:
    """The directory of a run: a path, the name of a folder in outputs/, or an MLflow run id.

    Raises: NotHere where the folder of an MLflow run is not here; UserError where there is no such run, or where its
    record is damaged.
    """
    root = project.root()
    folders = [folder for folder in (Path(run), root / OUTPUTS / run) if folder.is_dir()]
    for directory in map(RunDirectory, folders):
        if directory.read() is not None:
            return directory
    if folders:
        raise UserError(f"{folders[0]} is no run's folder: it has no result.json")
    if RUN_ID.fullmatch(str(run)):
        return _of_mlflow(str(run), root)
    match = messages.nearest(str(run), [each.directory.folder.name for each in stored(root / OUTPUTS)])
    hint = f": did you mean '{match}'?" if match else "; nor is it an MLflow run id"
    raise UserError(f"there is no run {run}: no such folder, and none of that name in {root / OUTPUTS}{hint}")


def _of_mlflow(run_id: str, root: Path) -> RunDirectory:
    """The directory of the record that an MLflow run is of, also where its folder has been renamed."""
    tags = tracking.tags(root, run_id)
    if "record" not in tags:
        raise UserError(f"the MLflow run {run_id} was not made by evidence: it has no tag 'record'")
    folder = root / tags.get("folder", OUTPUTS)
    known = [*stored(folder.parent), *stored(root / OUTPUTS)]
    ours = [directory for directory, record in known if record.record == tags["record"]]
    for directory in sorted(ours, key=lambda each: each.folder != folder):  # a copy has the same number
        return directory
    raise NotHere(f"the folder of the MLflow run {run_id} is not here: {folder} was its place; name its path")
