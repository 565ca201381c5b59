"""Sends the content of a run's folder to MLflow. The folder is the record, and MLflow has a copy.

A row is sent only once a checkpoint covers it, and only if it is later than the rows in MLflow. So each row is
there once, whatever was interrupted. The next command closes a run that its process left RUNNING.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from evidence import tracking
from evidence.display import terminal
from evidence.errors import UserError
from evidence.records.directory import Row, RunDirectory
from evidence.records.record import Record
from evidence.tracking import MLflowRun, Store, StoreRefused, contents, logged_model, sweeps

RETRY_SECONDS = 300.0  # between two attempts to reach a store that does not answer; each may take seconds
HEARTBEAT_SECONDS = 300.0
UNDELIVERED = "undelivered"  # the tag with what the store did not take
DELIVERY = "delivery"  # the tag with the format of what was delivered last

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
            run.log(contents.later(self._waiting, self._there))
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
    record = contents.record_of(directory)
    run = tracking.find_run(store, record.record)
    tags = contents.tags(directory, record, store.root) | {tracking.HEARTBEAT: str(time.time())}
    if run is None:  # a record may come to the store much later
        began = record.began or record.process.since  # a record of an earlier version has only the latter
        first = tags | {contents.NOTE: contents.note(directory, record)}
        run = tracking.create_run(store, directory.folder.name, first, datetime.fromisoformat(began))
    with contextlib.suppress(StoreRefused):  # `deliver` sends them again, and says so
        run.set_tags(tags | sweeps.attached(run, directory, record))
        run.add_params(contents.params(directory, record))
        run.add_dataset(contents.dataset(directory, record))
    return run


def deliver(directory: RunDirectory, run: MLflowRun, root: Path) -> None:
    """Update the MLflow run to the state of its folder. A repetition changes nothing.

    What the store does not take stays in the folder. It is noted, and the run's tag `undelivered` names it. All else
    is delivered.
    Raises: UserError where the store cannot be used.
    """
    record = contents.record_of(directory)
    rows = contents.later(contents.rows(directory, record), run.last_steps())
    ended, sweep = contents.ended(record), sweeps.attached(run, directory, record)
    refused = [  # the record's process may have died before it did so
        *_refused(run.set_tags, contents.tags(directory, record, root) | sweep),
        *_refused(run.add_params, contents.params(directory, record)),
        *_refused(run.add_dataset, contents.dataset(directory, record)),
    ]
    if _refused(run.log, rows, ended):  # then each metric by itself
        rows = contents.later(rows, run.last_steps())
        for name in dict.fromkeys(name for name, _, _ in rows):
            refused += _refused(run.log, [row for row in rows if row[0] == name], ended)
    for path, folder in contents.artifacts(directory, record):
        refused += _refused(run.artifact, path, folder)
    refused += _refused(_send_model, run, directory, record)
    missing = {UNDELIVERED: "; ".join(refused)} if refused or run.tags.get(UNDELIVERED) else {}
    _refused(run.set_tags, {DELIVERY: contents.FORMAT, **missing})
    if record.status != "RUNNING":
        run.close(record.status, ended)
    if refused:
        more = f", and {len(refused) - 1} more" * (len(refused) > 1)
        terminal.note(f"{directory.folder.name} is in MLflow, but not all of it: {refused[0]}{more}")


def ensure_delivered(directory: RunDirectory, store: Store) -> bool:
    """Deliver a record that has ended, if the experiment lacks some of it. Return whether it was delivered.

    The experiment lacks what it did not take before, what an earlier version did not deliver, and the new tags of a
    record that was moved, tagged, or part of another sweep.
    """
    record = contents.record_of(directory)
    run = tracking.find_run(store, record.record)
    if run is not None and run.is_closed(record.status, contents.ended(record)):
        is_whole = run.tags.get(DELIVERY) == contents.FORMAT and not run.tags.get(UNDELIVERED)
        movable = contents.movable_tags(directory, record, store.root)
        if is_whole and movable.items() <= run.tags.items():
            return False
        if is_whole:
            run.set_tags(movable | sweeps.attached(run, directory, record))
            return True
    run = run or open_run(directory, store)
    with directory.try_locked() as is_free:
        if is_free and record.mlflow_run_id is None:
            directory.update(mlflow_run_id=run.run_id)
    deliver(directory, run, store.root)
    return True


def _send_model(run: MLflowRun, directory: RunDirectory, record: Record) -> None:
    with logged_model.written(directory, record) as files:
        for path, folder in files:
            run.artifact(path, folder)


def _refused(send: Callable[..., None], *given: Any) -> list[str]:
    """Send what is given. Return why the store does not take it, or nothing."""
    try:
        send(*given)
    except StoreRefused as error:
        return [str(error)]
    return []
