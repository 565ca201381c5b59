"""Keeps what is measured beside the runs in CSV files. It adds the rows that a file lacks, each with its origin.

Column `source` is a hash of the measuring code, and `record` the trained run's record. `machine`, `date` and
`commit` say where and when. `image` is the number of a test image.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor

from evidence import execution, project
from evidence.config.settings import validate
from evidence.data import evenly_spaced_rows
from evidence.display import terminal
from evidence.errors import UserError
from evidence.models import LatentVariableModel
from evidence.parts import Parts, restore
from evidence.records import files, lineage
from evidence.records.damage import left_out, reading
from evidence.records.directory import RunDirectory
from evidence.report.compare import commit, distinct
from evidence.runs import provenance
from evidence.runs.build import build

IMAGES_PER_WRITE = 25
ORIGIN = ("machine", "date", "commit")
TEXTS = dict.fromkeys(("source", "record", "run", "date", "commit"), str)  # 12e4567 is no number
CPU = torch.device("cpu")

Rows = Sequence[Mapping[str, object]]


def trained(run: Mapping[str, Any], device: torch.device = CPU) -> Parts:
    """A finished run's parts at the end of its training.

    The run's `folder`, absolute or below the checkout, must have its `record`, as report.runs gives both.
    Raises: UserError where the folder has another record or none, or where its last checkpoint is missing or
    damaged.
    """
    directory = RunDirectory(project.root() / run["folder"])
    record = directory.read()
    if record is None or record.record != run["record"]:
        raise UserError(
            f"{directory.folder} is not the record {run['record']} that MLflow has of this run: train it again,"
            " or delete the run in MLflow"
        )
    parts = build(validate(directory.settings), device, project.root())
    restore(lineage.end(directory).state, parts.stateful)
    parts.model.eval()
    return parts


class Subject(NamedTuple):
    """A trained model to measure, its test images [N, X], and the columns that its measurements share."""

    model: LatentVariableModel
    test: Tensor
    device: torch.device
    same: dict[str, str]

    def placed(self, images: Tensor) -> Tensor:
        """The images [B, X] as floats on the model's device."""
        return images.to(self.device, torch.get_default_dtype())

    def complete(
        self, path: Path, count: int, rows: Callable[[int, Tensor], Rows], per_write: int = IMAGES_PER_WRITE
    ) -> None:
        """Measure `count` evenly spaced test images. rows(number, x [1, X]) gives the rows of one image."""

        def of_images(images: Sequence[int]) -> Rows:
            placed = ((image, self.placed(self.test[image : image + 1])) for image in images)
            return [{"image": image, **row} for image, x in placed for row in rows(image, x)]

        chosen = evenly_spaced_rows(len(self.test), count)
        complete(path, chosen.tolist(), of_images, self.same, self.device, per_write)


def subject(run: Mapping[str, Any], module: str) -> Subject:
    """The model of a finished run, for this module to measure on the best device.

    Raises: UserError as `trained` does.
    """
    device = execution.choose_device("auto", 0)
    parts = trained(run, device)
    same = {**source(module), "record": run["record"]}
    return Subject(parts.model, parts.dataset.test, device, same)


def each(runs: pd.DataFrame, measure: Callable[["pd.Series[Any]"], None]) -> None:
    """Measure every run. One whose folder cannot be used is named on stderr, and does not stop the others.

    Raises: UserError, after the last, where there is such a run.
    """
    failed = []
    for _, run in runs.iterrows():
        try:
            measure(run)
        except UserError as error:
            terminal.note(f"{run['run']} is not measured: {error}")
            failed.append(run["run"])
    if failed:
        raise UserError(f"not measured: {', '.join(failed)}")


def complete(
    path: Path,
    images: Sequence[int],
    rows: Callable[[Sequence[int]], Rows],
    same: Mapping[str, object],
    device: torch.device = CPU,
    per_write: int = IMAGES_PER_WRITE,
) -> None:
    """Add to the CSV file the rows of the images that it lacks. rows(images) gives them, with their column `image`.

    `same` are columns that all rows share, such as `source`. Rows with other values are dropped. The file is
    written whole after every `per_write` images, so that an interruption loses little.
    """
    table, origin = read(path, same), here(device)
    known = set(table["image"]) if len(table) else set()
    lacking = [image for image in images if image not in known]
    for start in range(0, len(lacking), per_write):
        fresh = pd.DataFrame([{**row, **origin, **same} for row in rows(lacking[start : start + per_write])])
        table = pd.concat([table, fresh]) if len(table) else fresh
        write(path, table)


def write(path: Path, table: pd.DataFrame, float_format: str | None = None) -> None:
    """Write the CSV file, whole or not at all."""
    files.write(path, table.to_csv(index=False, float_format=float_format).encode())


def read(path: Path, same: Mapping[str, object]) -> pd.DataFrame:
    """The rows of a CSV file that have these values.

    There are none where there is no file, where it cannot be read, or where it has no column `source`.
    """
    table = pd.DataFrame()
    with left_out(path), contextlib.suppress(FileNotFoundError), reading(path):
        table = pd.read_csv(path, dtype=TEXTS)
    if not {"source", *same} <= {*table}:
        return pd.DataFrame()
    for name, value in same.items():
        table = table[table[name] == value]
    return table


def source(module: str) -> dict[str, str]:
    """A hash of a measuring module, and of the mathematics and the studies' modules that it imports."""
    return {"source": provenance.source_digest(module)}


def here(device: torch.device) -> dict[str, str]:
    """The machine, date and commit of what is measured now, on this device."""
    facts = provenance.provenance()
    today = datetime.now(UTC).date().isoformat()
    machine = torch.cuda.get_device_name(device) if device.type == "cuda" else facts["processor"]
    return {"machine": machine, "date": today, "commit": commit(facts)}


def origin(rows: pd.DataFrame) -> dict[str, str]:
    """Every machine, date and commit of these rows."""
    return {name: distinct(rows[name]) for name in ORIGIN}


def notes(module: str, tables: Sequence[pd.DataFrame]) -> list[str]:
    """A note where some rows were measured by other code than today's."""
    if {each for table in tables if len(table) for each in table["source"]} <= {*source(module).values()}:
        return []
    return [
        "Some of these figures were measured by other code than today's; the command measures them again."
    ]
