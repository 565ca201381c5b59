"""Sends the content of a run's folder to MLflow. The folder is the record, and MLflow has a copy.

A row is sent only once a checkpoint covers it, and only if it is later than the rows in MLflow. So each row is
there once, whatever was interrupted. The next command closes a run that its process left RUNNING.
"""

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from evidence import tracking
from evidence.display import terminal
from evidence.errors import UserError
from evidence.records import identity
from evidence.records.directory import Row, RunDirectory, latest_checkpoint, shown_folder
from evidence.records.record import Record
from evidence.tracking import MLflowRun, Store, StoreRefused

RETRY_SECONDS = 300.0  # between two attempts to reach a store that does not answer; each may take seconds
HEARTBEAT_SECONDS = 300.0
UNDELIVERED = "undelivered"  # the tag with what the store did not take
# Entries of result.json that are tags too.
TAGS = (
    "record",
    "train_identity",
    "run_identity",
    "cell_identity",
    "identity_version",
    "code_digest",
    "data_digest",
    "steps",
    "device",
    "parent",
    "init_from",
)

log = logging.getLogger(__name__)


class MLflowSync:
    """Sends a run's rows to MLflow while it computes. If the store fails, the run continues and the rows wait."""

    def __init__(self, directory: RunDirectory, store: Store | None) -> None:
        self._directory, self._store = directory, store
        self._run: MLflowRun | None = None  # once the store has answered
        self._there: dict[str, int] = {}
        self._waiting: list[Row] = []
        self._is_behind, self._not_before, self._last_heartbeat = True, 0.0, 0.0

    def send(self, rows: Sequence[Row]) -> None:
        """Send rows that a checkpoint covers. Rows that MLflow has already are left out."""
        self.heartbeat()
        if self._store is None:
            return
        self._waiting += rows
        if time.monotonic() < self._not_before:
            return
        try:
            run = self._opened(self._store)
            if self._is_behind:  # an earlier process, or a failed call, may have sent some of them
                self._there = run.last_steps()
            run.log(_later(self._waiting, self._there))
        except UserError as error:
            self._is_behind, self._not_before = True, time.monotonic() + RETRY_SECONDS
            log.warning("%s; the run goes on, its rows wait", error)
        else:
            self._waiting, self._is_behind = [], False

    def heartbeat(self) -> None:
        """Note now and then, in the folder and in the store, that the process is alive."""
        now = time.monotonic()
        if now - self._last_heartbeat > HEARTBEAT_SECONDS:
            self._last_heartbeat = now
            self._directory.heartbeat()
            if self._run is not None and not self._is_behind:
                with contextlib.suppress(UserError):
                    self._run.heartbeat()

    def close(self) -> None:
        """Deliver the folder's final state. Raises: UserError where the store cannot be used."""
        if self._store is not None:
            deliver(self._directory, self._opened(self._store), self._store.root)

    def _opened(self, store: Store) -> MLflowRun:
        if self._run is None:
            self._run = open_run(self._directory, store)
            self._run.resume()
            with contextlib.suppress(OSError):  # a write that must succeed reports a full disk
                self._directory.update(mlflow_run_id=self._run.run_id)
        return self._run


def open_run(directory: RunDirectory, store: Store) -> MLflowRun:
    """The MLflow run of a record, with its params and tags. It is made if the experiment has none.

    Raises: UserError where the store cannot be used.
    """
    record = _record(directory)
    run = tracking.find_run(store, record.record)
    tags = _tags(directory, record, store.root) | {tracking.HEARTBEAT: str(time.time())}
    if run is None:  # a record may come to the store much later
        began = record.began or record.process.since  # a record of an earlier version has only the latter
        run = tracking.create_run(store, directory.folder.name, tags, datetime.fromisoformat(began))
    with contextlib.suppress(StoreRefused):  # `deliver` sends them again, and says so
        run.set_tags(tags)
        run.add_params(_params(directory, record))
    return run


def deliver(directory: RunDirectory, run: MLflowRun, root: Path) -> None:
    """Update the MLflow run to the state of its folder. A repetition changes nothing.

    What the store does not take stays in the folder. It is noted, and the run's tag `undelivered` names it. All else
    is delivered.
    Raises: UserError where the store cannot be used.
    """
    record = _record(directory)
    rows, ended = _later(_rows(directory, record), run.last_steps()), _ended(record)
    refused = [
        *_refused(run.set_tags, _tags(directory, record, root)),  # its process may have died before it did so
        *_refused(run.add_params, _params(directory, record)),
    ]
    if _refused(run.log, rows, ended):  # then each metric by itself
        rows = _later(rows, run.last_steps())
        for name in dict.fromkeys(name for name, _, _ in rows):
            refused += _refused(run.log, [row for row in rows if row[0] == name], ended)
    for path, folder in _artifacts(directory, record):
        refused += _refused(run.artifact, path, folder)
    if refused or run.tags.get(UNDELIVERED):
        _refused(run.set_tags, {UNDELIVERED: "; ".join(refused)})
    if record.status != "RUNNING":
        run.close(record.status, ended)
    if refused:
        more = f", and {len(refused) - 1} more" * (len(refused) > 1)
        terminal.note(f"{directory.folder.name} is in MLflow, but not all of it: {refused[0]}{more}")


def ensure_delivered(directory: RunDirectory, store: Store) -> bool:
    """Deliver a record that has ended, if the experiment lacks some of it. Return whether it was delivered.

    The experiment lacks the new folder of a record that was moved, and what it did not take before.
    """
    record = _record(directory)
    run = tracking.find_run(store, record.record)
    if run is not None and run.is_closed(record.status, _ended(record)):
        place = _place(directory, store.root)
        if not run.tags.get(UNDELIVERED) and place.items() <= run.tags.items():
            return False
    run = run or open_run(directory, store)
    deliver(directory, run, store.root)
    with directory.try_locked() as is_free:
        if is_free and record.mlflow_run_id is None:
            directory.update(mlflow_run_id=run.run_id)
    return True


def _refused(send: Callable[..., None], *given: Any) -> list[str]:
    """Send what is given. Return why the store does not take it, or nothing."""
    try:
        send(*given)
    except StoreRefused as error:
        return [str(error)]
    return []


def _record(directory: RunDirectory) -> Record:
    """The record as it is now, of a directory that has one."""
    record = directory.read()
    assert record is not None
    return record


def _rows(directory: RunDirectory, record: Record) -> list[Row]:
    """The rows that count: those that a checkpoint covers, and a finished run's last numbers.

    The last numbers have no step. So MLflow's page draws them as bars, one for each run.
    """
    if record.status == "FINISHED":
        final = [
            (name, value, 0) for name, value in record.metrics.items() if name.startswith(("test/", "speed/"))
        ]
        return directory.read_metrics() + final
    found = latest_checkpoint([directory], sys.maxsize)
    return directory.read_metrics(found.state["metrics_size"]) if found else []


def _later(rows: Iterable[Row], there: Mapping[str, int]) -> list[Row]:
    """The rows that are later than those in MLflow, by MLflow's names."""
    named = ((tracking.metric_name(name), value, step) for name, value, step in rows)
    return [row for row in named if row[2] > there.get(row[0], -1)]


def _artifacts(directory: RunDirectory, record: Record) -> Iterator[tuple[Path, str | None]]:
    """The files that MLflow gets, and their folders there."""
    yield directory.config, None
    for figure in sorted(directory.figures.glob("*.png")):
        yield figure, "figures"
    if record.status == "FAILED" and directory.traceback.exists():  # a full disk may have prevented it
        yield directory.traceback, None


def _ended(record: Record) -> datetime | None:
    """When the record ended. None while it runs, or if an earlier version ended it."""
    return datetime.fromisoformat(record.ended) if record.ended else None


def _params(directory: RunDirectory, record: Record) -> dict[str, str | int | float]:
    """All settings by dotted keys. The few params that comparisons read replace settings of the same name."""
    settings = directory.settings
    few = identity.params(settings, record.eval_samples, record.eval_images)
    return {**tracking.flattened(settings), **few}


def _tags(directory: RunDirectory, record: Record, root: Path) -> dict[str, str]:
    values = record.model_dump(include=set(TAGS))
    return {
        **{name: str(values[name]) for name in TAGS if values[name]},
        **record.provenance,
        **({"mixed": "; ".join(record.mixed)} if record.mixed else {}),
        **_place(directory, root),
    }


def _place(directory: RunDirectory, root: Path) -> dict[str, str]:
    """Where the record is now. Its result.json says where it was computed."""
    return {"folder": shown_folder(directory.folder, root), "lock": str(directory.lock.resolve())}
