"""Says what MLflow has of a record: rows, params, tags, the data set, and files. All of it is read from the folder."""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evidence import tracking
from evidence.config.schema.tags import OF_RECORD
from evidence.passwords import masked_values
from evidence.records import identity
from evidence.records.directory import Row, RunDirectory, shown_folder
from evidence.records.lineage import latest_checkpoint
from evidence.records.record import Record

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput

FORMAT = "4"  # of what is delivered; a run with another one in its tag `delivery` is delivered again
NOTE = "mlflow.note.content"  # what MLflow shows as the description


def record_of(directory: RunDirectory) -> Record:
    """The record as it is now, of a directory that has one."""
    record = directory.read()
    assert record is not None
    return record


def rows(directory: RunDirectory, record: Record) -> list[Row]:
    """The rows that count: those that a checkpoint covers, and a finished run's last numbers.

    The last numbers have no step. So MLflow's page draws them as bars, one for each run.
    """
    if record.status == "FINISHED":
        logged = directory.read_metrics()
        names = {name for name, _, _ in logged}
        return logged + [(name, value, 0) for name, value in record.metrics.items() if name not in names]
    found = latest_checkpoint([directory], sys.maxsize)
    return directory.read_metrics(found.state["metrics_size"]) if found else []


def later(given: Iterable[Row], there: Mapping[str, int]) -> list[Row]:
    """The rows that are later than those in MLflow, by MLflow's names."""
    named = ((tracking.metric_name(name), value, step) for name, value, step in given)
    return [row for row in named if row[2] > there.get(row[0], -1)]


def artifacts(directory: RunDirectory, record: Record) -> Iterator[tuple[Path, str | None]]:
    """The files that MLflow gets, and their folders there. A full disk may have prevented some.

    Only regular files: a device or a pipe in a file's place may have no end.
    """
    plain = [directory.config, directory.result, directory.metrics, directory.log]
    if record.status == "FAILED":
        plain.append(directory.traceback)
    given = [(path, None) for path in plain] + [
        (path, "figures") for path in sorted(directory.figures.glob("*.png"))
    ]
    return ((path, folder) for path, folder in given if path.is_file())


def ended(record: Record) -> datetime | None:
    """When the record ended. None while it runs, or if an earlier version ended it."""
    return datetime.fromisoformat(record.ended) if record.ended else None


def params(directory: RunDirectory, record: Record) -> dict[str, str | int | float]:
    """All settings by dotted keys. The few params that comparisons read replace settings of the same name."""
    settings = directory.settings
    few = identity.params(settings, record.eval_samples, record.eval_images)
    passes: dict[str, str] = {"passes": f"{record.passes:.4g}"} if record.passes else {}
    return {**tracking.flattened(settings), **few, **passes}


def tags(directory: RunDirectory, record: Record, root: Path) -> dict[str, str]:
    """Those of the run's state, and of its place."""
    values = record.model_dump(include=set(OF_RECORD))
    return {
        **{name: str(values[name]) for name in OF_RECORD if values[name]},
        "code": json.dumps(record.code),
        **record.provenance,
        **({"mixed": "; ".join(record.mixed)} if record.mixed else {}),
        **source_tags(record.provenance.get("git_commit", "unknown")),
        **movable_tags(directory, record, root),
    }


def movable_tags(directory: RunDirectory, record: Record, root: Path) -> dict[str, str]:
    """Those that may change after the run's end: where the record is now, its sweep, and the user's."""
    sweep = {"sweep": record.sweep.words, "sweep_id": record.sweep.id} if record.sweep else {}
    place = {"folder": shown_folder(directory.folder, root), "lock": str(directory.lock.resolve())}
    return {**record.tags, **sweep, **place}


def source_tags(commit: str) -> dict[str, str]:
    """What MLflow shows as source: the program, and its commit where there is one."""
    known = commit != "unknown"
    name = {"mlflow.source.name": "run.py" if known else "evidence", "mlflow.source.type": "LOCAL"}
    return {**name, **({"mlflow.source.git.commit": commit} if known else {})}


def note(directory: RunDirectory, record: Record) -> str:
    """The description that a run begins with, as Markdown. The user may edit it in MLflow."""
    settings = directory.settings
    data, trainer = settings["data"], settings["trainer"]
    binarization = record.data.get("binarization")
    length = f"{record.passes:.4g} passes, " if record.passes else ""
    return (
        f"**{settings['objective']['name']}** with k = {settings['k']}, model {settings['model']['name']}, on"
        f" {data['name']}{f' ({binarization} binarization)' if binarization else ''}, seed {settings['seed']}:"
        f" {length}{record.steps:,} steps of {trainer['batch_size']} images.\n\n"
        f'Open its model with `evidence.load("{directory.folder.name}")`, or by the id of this run.'
    )


def dataset(directory: RunDirectory, record: Record) -> "DatasetInput":
    """The data set, by the digest that the record has of its images."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    about: dict[str, Any] = masked_values(record.data)
    settings = masked_values(directory.settings["data"])
    binarization = str(about.get("binarization", "unknown"))
    source = {"data": settings["_target_"], "files": about.get("files", {})}
    profile = {key: about[key] for key in ("binarization", "splits") if key in about}
    tags = {"mlflow.data.context": "training and evaluation", "binarization": binarization}
    return DatasetInput(
        Dataset(
            settings["name"], record.data_digest, "code", json.dumps(source), profile=json.dumps(profile)
        ),
        [InputTag(*each) for each in tags.items()],
    )
