"""What a run's folder says, brought to MLflow: the folder is the truth, and a store that was away catches up.

Rows go there only once a checkpoint covers them, and only those later than what is there: so each stands there
once, whatever was broken off in between. A run that its process left RUNNING is closed by the next command.
"""

import contextlib
import logging
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from evidence import tracking
from evidence.display import terminal
from evidence.errors import UserError
from evidence.records import identity
from evidence.records.directory import Row, RunDirectory, directories, latest_checkpoint
from evidence.tracking import MLflowRun, Store

RETRY_SECONDS = 300.0  # between two attempts to reach a store that does not answer: each may take seconds
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
    """Keeps MLflow abreast of a run while it computes. Where the store fails, the run goes on and the rows wait."""

    def __init__(self, directory: RunDirectory, store: Store | None) -> None:
        self._home, self._store = directory, store
        self._run: MLflowRun | None = None  # once the store has answered
        self._there: dict[str, int] = {}
        self._waiting: list[Row] = []
        self._is_behind, self._not_before, self._beat = True, 0.0, 0.0

    def send(self, rows: Sequence[Row]) -> None:
        """Bring rows that a checkpoint covers; those already there are left out."""
        self.heartbeat()
        if self._store is None:
            return
        self._waiting += rows
        if time.monotonic() < self._not_before:
            return
        try:
            run = self._opened(self._store)
            if self._is_behind:  # an earlier process, or a failed call, may have brought some of them
                self._there = run.last_steps()
            run.log(_later(self._waiting, self._there))
        except UserError as error:
            self._is_behind, self._not_before = True, time.monotonic() + RETRY_SECONDS
            log.warning("%s; the run goes on, its rows wait", error)
        else:
            self._waiting, self._is_behind = [], False

    def heartbeat(self) -> None:
        """Now and then tell the folder and the store that the process is alive."""
        now = time.monotonic()
        if now - self._beat > HEARTBEAT_SECONDS:
            self._beat = now
            self._home.heartbeat()
            if self._run is not None and not self._is_behind:
                with contextlib.suppress(UserError):
                    self._run.heartbeat()

    def close(self) -> None:
        """Bring what the folder says at the end; raises UserError where the store cannot be used."""
        if self._store is not None:
            deliver(self._home, self._opened(self._store))

    def _opened(self, store: Store) -> MLflowRun:
        if self._run is None:
            self._run = open_run(self._home, store)
            self._run.resume()
            with contextlib.suppress(OSError):  # a full disk is told by what must be written
                self._home.update_result(mlflow_run_id=self._run.run_id)
        return self._run


def open_run(directory: RunDirectory, store: Store) -> MLflowRun:
    """The MLflow run of a record, made if it is not in the experiment, with its params and tags.

    Raises: UserError where the store cannot be used.
    """
    result = directory.result
    run = tracking.find_run(store, result["record"])
    tags = _tags(directory, result) | {tracking.HEARTBEAT: str(time.time())}
    if run is None:  # a record may come to the store much later
        run = tracking.create_run(store, directory.folder.name, tags, _began(result))
    run.describe(_params(directory, result), tags)
    return run


def deliver(directory: RunDirectory, run: MLflowRun) -> None:
    """Bring the MLflow run up to what its folder says; harmless when repeated.

    Raises: UserError where the store cannot be used.
    """
    result = directory.result
    run.describe(
        _params(directory, result), _tags(directory, result)
    )  # its process may have died before it did
    run.log(_later(_rows(directory, result), run.last_steps()), _ended(result))
    run.artifact(directory.config)
    for figure in sorted(directory.figures.glob("*.png")):
        run.artifact(figure, "figures")
    if (
        result["status"] == "FAILED" and directory.traceback.exists()
    ):  # it could not be written to a full disk
        run.artifact(directory.traceback)
    run.close(result["status"], _ended(result))


def ensure_delivered(directory: RunDirectory, store: Store) -> bool:
    """Deliver a record that has ended and is not, or not wholly, in the experiment; whether that was needed."""
    result = directory.result
    run = tracking.find_run(store, result["record"])
    if run is not None and run.is_closed(result["status"], _ended(result)):
        return False
    deliver(directory, run or open_run(directory, store))
    return True


def close_vanished(outputs: Path, store: Store | None) -> None:
    """Close the runs that their processes left RUNNING, in `outputs` and in the store.

    On this host the folder's lock tells, which is free; on another host, a heartbeat that is half an hour old.
    """
    for directory in directories(outputs):
        _close_if_vanished(directory)
    for run in [] if store is None else tracking.running(store):
        directory = RunDirectory(Path(run.tags["lock"]).parent)
        if run.tags["host"] == socket.gethostname() and directory.result.get("record") == run.tags["record"]:
            _close_if_vanished(directory)
            with directory.try_locked() as is_free:
                if is_free:
                    deliver(directory, run)
        elif time.time() - (heartbeat := float(run.tags[tracking.HEARTBEAT])) > SILENT_SECONDS:
            run.close("KILLED", datetime.fromtimestamp(heartbeat, UTC))


def sync(outputs: Path, uri: str | None, root: Path) -> None:
    """Deliver every record in `outputs` that the experiment it was meant for lacks.

    Raises: UserError where the store cannot be used.
    """
    delivered = 0
    for directory in directories(outputs):
        if not directory.config.exists():
            terminal.note(f"{directory.config} is missing: the record is not delivered")
            continue
        settings = directory.settings
        if directory.result["status"] != "RUNNING" and settings["tracking"]["name"] == "mlflow":
            delivered += ensure_delivered(directory, Store(uri, settings["name"], root))
    terminal.note(f"delivered {delivered} of the records in {outputs}; the others were there")


def _close_if_vanished(directory: RunDirectory) -> None:
    is_here = directory.result.get("process", {}).get("host") == socket.gethostname()
    with directory.try_locked() as is_free:
        if (
            is_free
            and directory.result["status"] == "RUNNING"
            and (is_here or directory.silent_seconds() > SILENT_SECONDS)
        ):
            ended = directory.last_sign().isoformat(timespec="microseconds")
            directory.update_result(status="KILLED", error="its process vanished", ended=ended)
            terminal.note(
                f"{directory.folder.name}: its process had vanished without a word; closed as KILLED"
            )


def _rows(directory: RunDirectory, result: dict[str, Any]) -> list[Row]:
    """The rows that count: those that a checkpoint covers, and a finished run's last numbers.

    These have no step: MLflow's page draws such a metric as bars, a run beside the other.
    """
    if result["status"] == "FINISHED":
        final = [
            (name, value, 0)
            for name, value in result["metrics"].items()
            if name.startswith(("test/", "speed/"))
        ]
        return directory.read_metrics() + final
    found = latest_checkpoint([directory], sys.maxsize)
    return directory.read_metrics(found[1]["metrics_size"]) if found else []


def _later(rows: Sequence[Row], there: Mapping[str, int]) -> list[Row]:
    return [row for row in rows if row[2] > there.get(row[0], -1)]


def _began(result: dict[str, Any]) -> datetime:
    """When the record was begun; one of an earlier version only knows the last process to go on with it."""
    return datetime.fromisoformat(result.get("began") or result["process"]["since"])


def _ended(result: dict[str, Any]) -> datetime | None:
    """When the record was ended; not known of one that runs, or that an earlier version ended."""
    return datetime.fromisoformat(result["ended"]) if result.get("ended") else None


def _params(directory: RunDirectory, result: dict[str, Any]) -> dict[str, str | int | float]:
    """All settings by dotted keys, and over them the few that comparisons read."""
    settings = directory.settings
    few = identity.params(settings, result["eval_samples"], result["eval_images"])
    return {**tracking.flattened(settings), **few}


def _tags(directory: RunDirectory, result: dict[str, Any]) -> dict[str, str]:
    return {
        **{name: str(result[name]) for name in TAGS if result.get(name)},
        **result["provenance"],
        **({"mixed": "; ".join(result["mixed"])} if result["mixed"] else {}),
        "lock": str(directory.lock.resolve()),
    }
