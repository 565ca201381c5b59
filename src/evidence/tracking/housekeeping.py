"""Looks after the records of other runs: closes those of vanished processes, and delivers what MLflow lacks.

A record that is damaged, or that the store does not take, is noted. It hinders no other run.
"""

import contextlib
import socket
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from evidence import tracking
from evidence.config.messages import describe
from evidence.display import terminal
from evidence.records.damage import left_out
from evidence.records.directory import RunDirectory, stored
from evidence.records.record import Record
from evidence.tracking import MLflowRun, Store, StoreUnavailable
from evidence.tracking.mlflow_sync import deliver, ensure_delivered

SILENT_SECONDS = 1800.0  # without a heartbeat for so long, a run on another host is dead

Outcome = Literal["delivered", "there", "offline", "running", "early", "damaged", "failed"]
SAID: Mapping[Outcome, str] = {
    "delivered": "delivered {}",
    "there": "{} there already",
    "offline": "{} of tracking=none left out: sync=all delivers them too",
    "running": "{} still computed",
    "early": "{} of an earlier version, which cannot be delivered",
    "damaged": "{} damaged",
    "failed": "{} not delivered",
}


def close_vanished(outputs: Path, store: Store | None) -> None:
    """Close the runs that their processes left RUNNING, in `outputs` and in the store.

    On this host such a run's lock is free. On another host its heartbeat is half an hour old.
    """
    for directory, record in stored(outputs):
        with _noting(directory):
            _close_if_vanished(directory, record)
    if store is None:
        return
    for run in tracking.running(store):
        directory = RunDirectory(Path(run.tags["lock"]).parent)
        with _noting(directory):
            _close_if_ended(directory, run, store.root)


def sync(outputs: Path, uri: str | None, root: Path, everything: bool) -> bool:
    """Deliver the records in `outputs` that their MLflow experiments lack. Return whether none failed.

    `everything` includes the records of tracking=none that were never delivered.
    Raises: UserError where the store cannot be used.
    """
    number: Counter[Outcome] = Counter()
    for directory, record in stored(outputs):
        outcome: Outcome = "damaged"
        try:
            with left_out(directory.folder):
                outcome = _synced(directory, record, uri, root, everything)
        except StoreUnavailable:
            raise
        except Exception as error:
            outcome = "failed"
            _note(directory, error)
        number[outcome] += 1
    said = "; ".join(text.format(number[outcome]) for outcome, text in SAID.items() if number[outcome])
    terminal.note(f"records in {outputs}: {said or 'none'}")
    return not number["failed"]


def _synced(
    directory: RunDirectory, record: Record, uri: str | None, root: Path, everything: bool
) -> Outcome:
    settings = directory.settings
    if record.status == "RUNNING":
        return "running"
    if not record.record:
        return "early"
    if not (everything or record.mlflow_run_id or settings["tracking"]["name"] == "mlflow"):
        return "offline"
    return "delivered" if ensure_delivered(directory, Store(uri, settings["name"], root)) else "there"


def _close_if_ended(directory: RunDirectory, run: MLflowRun, root: Path) -> None:
    """Close the MLflow run of a record that has ended, or whose process has vanished."""
    is_here = run.tags["host"] == socket.gethostname()
    found = directory.read() if is_here else None
    if found is not None and found.record == run.tags["record"]:
        _close_if_vanished(directory, found)
        with directory.try_locked() as is_free:
            if is_free:
                deliver(directory, run, root)
    elif time.time() - (heartbeat := float(run.tags[tracking.HEARTBEAT])) > SILENT_SECONDS:
        run.close("KILLED", datetime.fromtimestamp(heartbeat, UTC))


def _close_if_vanished(directory: RunDirectory, record: Record) -> None:
    is_here = record.process.host == socket.gethostname()
    if record.status != "RUNNING" or not (is_here or directory.silent_seconds() > SILENT_SECONDS):
        return
    with directory.try_locked() as is_free:
        if is_free and (now := directory.read()) and now.status == "RUNNING":  # it may have ended meanwhile
            ended = directory.last_sign().isoformat(timespec="microseconds")
            directory.update(status="KILLED", error="its process vanished", ended=ended)
            terminal.note(
                f"{directory.folder.name}: its process had vanished without a word; closed as KILLED"
            )


@contextlib.contextmanager
def _noting(directory: RunDirectory) -> Iterator[None]:
    """Turn an error of the block into a note."""
    try:
        with left_out(directory.folder):
            yield
    except Exception as error:
        _note(directory, error)


def _note(directory: RunDirectory, error: Exception) -> None:
    terminal.note(f"{directory.folder} is left as it is: {describe(error)}")
