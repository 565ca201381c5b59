"""Sends the content of a run's folder to MLflow. The folder is the record, and MLflow has a copy.

A row is sent only once a checkpoint covers it, and only if it is later than the rows in MLflow. So each row is
there once, whatever was interrupted. The next command closes a run that its process left RUNNING.
"""

import contextlib
import logging
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from evidence import tracking
from evidence.display import terminal
from evidence.errors import UserError
from evidence.records import identity
from evidence.records.damage import left_out
from evidence.records.directory import Row, RunDirectory, latest_checkpoint, stored
from evidence.records.record import Record
from evidence.tracking import MLflowRun, Store

RETRY_SECONDS = 300.0  # between two attempts to reach a store that does not answer; each may take seconds
HEARTBEAT_SECONDS = 300.0
SILENT_SECONDS = 1800.0  # without a heartbeat for so long, a run on another host is dead
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
    "folder",
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
            deliver(self._directory, self._opened(self._store))

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
    tags = _tags(directory, record) | {tracking.HEARTBEAT: str(time.time())}
    if run is None:  # a record may come to the store much later
        began = record.began or record.process.since  # a record of an earlier version has only the latter
        run = tracking.create_run(store, directory.folder.name, tags, datetime.fromisoformat(began))
    run.describe(_params(directory, record), tags)
    return run


def deliver(directory: RunDirectory, run: MLflowRun) -> None:
    """Update the MLflow run to the state of its folder. A repetition changes nothing.

    Raises: UserError where the store cannot be used.
    """
    record = _record(directory)
    run.describe(
        _params(directory, record), _tags(directory, record)
    )  # its process may have died before it did so
    run.log(_later(_rows(directory, record), run.last_steps()), _ended(record))
    run.artifact(directory.config)
    for figure in sorted(directory.figures.glob("*.png")):
        run.artifact(figure, "figures")
    if record.status == "FAILED" and directory.traceback.exists():  # a full disk may have prevented it
        run.artifact(directory.traceback)
    if record.status != "RUNNING":
        run.close(record.status, _ended(record))


def ensure_delivered(directory: RunDirectory, store: Store) -> bool:
    """Deliver a record that has ended, if the experiment lacks some of it. Return whether it was delivered."""
    record = _record(directory)
    run = tracking.find_run(store, record.record)
    if run is not None and run.is_closed(record.status, _ended(record)):
        return False
    deliver(directory, run or open_run(directory, store))
    return True


def close_vanished(outputs: Path, store: Store | None) -> None:
    """Close the runs that their processes left RUNNING, in `outputs` and in the store.

    On this host such a run's lock is free. On another host its heartbeat is half an hour old.
    """
    for directory, record in stored(outputs):
        with left_out(directory.folder):
            _close_if_vanished(directory, record)
    for run in [] if store is None else tracking.running(store):
        directory, found = RunDirectory(Path(run.tags["lock"]).parent), None
        with left_out(directory.folder):
            found = directory.read()
        if run.tags["host"] == socket.gethostname() and found and found.record == run.tags["record"]:
            _close_if_vanished(directory, found)
            with directory.try_locked() as is_free:
                if is_free:
                    with left_out(directory.folder):
                        deliver(directory, run)
        elif time.time() - (heartbeat := float(run.tags[tracking.HEARTBEAT])) > SILENT_SECONDS:
            run.close("KILLED", datetime.fromtimestamp(heartbeat, UTC))


def sync(outputs: Path, uri: str | None, root: Path) -> None:
    """Deliver every record in `outputs` that its MLflow experiment lacks.

    Raises: UserError where the store cannot be used.
    """
    delivered = 0
    for directory, record in stored(outputs):
        with left_out(directory.folder):
            settings = directory.settings
            if record.record and record.status != "RUNNING" and settings["tracking"]["name"] == "mlflow":
                delivered += ensure_delivered(directory, Store(uri, settings["name"], root))
    terminal.note(f"delivered {delivered} of the records in {outputs}; the others were there")


def _record(directory: RunDirectory) -> Record:
    """The record as it is now, of a directory that has one."""
    record = directory.read()
    assert record is not None
    return record


def _close_if_vanished(directory: RunDirectory, record: Record) -> None:
    is_here = record.process.host == socket.gethostname()
    if record.status != "RUNNING" or not (is_here or directory.silent_seconds() > SILENT_SECONDS):
        return
    with directory.try_locked() as is_free:
        if is_free and _record(directory).status == "RUNNING":  # it may have ended meanwhile
            ended = directory.last_sign().isoformat(timespec="microseconds")
            directory.update(status="KILLED", error="its process vanished", ended=ended)
            terminal.note(
                f"{directory.folder.name}: its process had vanished without a word; closed as KILLED"
            )


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


def _later(rows: Sequence[Row], there: Mapping[str, int]) -> list[Row]:
    return [row for row in rows if row[2] > there.get(row[0], -1)]


def _ended(record: Record) -> datetime | None:
    """When the record ended. None while it runs, or if an earlier version ended it."""
    return datetime.fromisoformat(record.ended) if record.ended else None


def _params(directory: RunDirectory, record: Record) -> dict[str, str | int | float]:
    """All settings by dotted keys. The few params that comparisons read replace settings of the same name."""
    settings = directory.settings
    few = identity.params(settings, record.eval_samples, record.eval_images)
    return {**tracking.flattened(settings), **few}


def _tags(directory: RunDirectory, record: Record) -> dict[str, str]:
    values = record.model_dump(include=set(TAGS))
    return {
        **{name: str(values[name]) for name in TAGS if values[name]},
        **record.provenance,
        **({"mixed": "; ".join(record.mixed)} if record.mixed else {}),
        "lock": str(directory.lock.resolve()),
    }
