"""Keeps the record of a run while it computes: log, status, metrics.csv, checkpoints and the MLflow run.

A checkpoint commits the rows before it. metrics.csv is on disk by then. MLflow gets the rows afterwards.
"""

import contextlib
import logging
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from evidence.display import terminal
from evidence.errors import UserError, is_failure
from evidence.passwords import masked
from evidence.records.directory import Row, RunDirectory, Snapshot
from evidence.records.record import Status
from evidence.runs.driver import RUNNING
from evidence.tracking import Store
from evidence.tracking.mlflow_sync import MLflowSync

log = logging.getLogger("evidence")


class Recorder:
    """Writes to the run's directory, and sends rows to MLflow. MLflow's failures do not stop the run."""

    def __init__(self, directory: RunDirectory, mlflow: MLflowSync, for_good: Sequence[int]) -> None:
        self.directory = directory
        self._mlflow, self._for_good = mlflow, for_good
        self.is_training = False

    def heartbeat(self) -> None:
        """Note now and then, in the directory and in MLflow, that the process is alive."""
        self._mlflow.heartbeat()

    def begin_training(self) -> None:
        """Delete the traceback of an earlier process, and send MLflow the rows that the directory has already."""
        self.is_training = True
        self.directory.traceback.unlink(missing_ok=True)
        self._mlflow.send(self.directory.read_metrics())

    def commit(self, rows: Sequence[Row], state: dict[str, Any]) -> None:
        """Write the rows, then the checkpoint that commits them, and send the rows to MLflow."""
        if rows:
            self.directory.append_metrics(rows)
        self.directory.save_checkpoint(state, self._for_good)
        self._mlflow.send(rows)

    def at(self, step: int) -> dict[str, float]:
        """The metrics recorded at a step."""
        return {name: value for name, value, row_step in self.directory.read_metrics() if row_step == step}

    def finish(self, metrics: dict[str, float]) -> None:
        """Write the final metrics, and delete the checkpoints that are not kept after the end."""
        self.directory.update(metrics=metrics)
        self.directory.drop_checkpoints(self._for_good, 0)


@contextlib.contextmanager
def recording(
    directory: RunDirectory, store: Store | None, for_good: Sequence[int], before: Snapshot | None
) -> Iterator[Recorder]:
    """Yield a recorder. The run's status in the directory and in MLflow is right however the block ends.

    `for_good` are the steps whose checkpoints are kept after the end. `before` is the record that was there. A
    process that is refused or interrupted before it trains leaves that as it was.
    """
    handler = _log_handler(directory)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    # On a full disk the write that fails reports it, once.
    handler.handleError = lambda record: None  # type: ignore[method-assign]
    (number,) = RUNNING.get()
    handler.addFilter(
        lambda record: number in RUNNING.get()
    )  # other runs of this process have their own logs
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    mlflow = MLflowSync(directory, store)
    recorder = Recorder(directory, mlflow, for_good)
    status: Status = "KILLED"  # by what is no Exception: Ctrl-C, SIGTERM, a queue's time limit
    is_fault = False
    try:
        yield recorder
        directory.update(status="FINISHED")
        status = "FINISHED"
    except BaseException as error:
        if not is_failure(error):
            raise
        status, is_fault = "FAILED", not isinstance(error, UserError)
        with contextlib.suppress(OSError):  # the disk may be full
            text = _writable("".join(traceback.format_exception(error)))
            directory.traceback.write_text(text, encoding="utf-8")
            directory.update(error=_writable(f"{type(error).__name__}: {error}".removesuffix(": ")))
        log.error("%s", _writable(str(error)))
        raise
    finally:
        is_undone = before is not None and not recorder.is_training and not is_fault
        log.info("left as it was" if is_undone else f"status {status}")
        log.removeHandler(handler)
        with contextlib.suppress(OSError):
            handler.close()
        with contextlib.suppress(OSError):
            if before is not None and is_undone:
                directory.restore(before)
            else:
                directory.update(status=status)
        if not is_undone:
            try_delivery(mlflow.close, directory)


def _writable(text: str) -> str:
    """An error's text without passwords, and with \\udcff for a byte of a file's name that is no text."""
    return masked(text).encode(errors="backslashreplace").decode()


def _log_handler(directory: RunDirectory) -> logging.Handler:
    """Open run.log. A log that cannot be written ends no run."""
    try:
        return logging.FileHandler(directory.log, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        terminal.note(f"{directory.log} cannot be written ({error.strerror}): this run has no log")
        return logging.NullHandler()


def try_delivery(deliver: Callable[[], object], directory: RunDirectory) -> None:
    """Deliver. A store that fails hides neither the directory's record nor the error that stopped a run."""
    try:
        deliver()
    except UserError as error:
        terminal.note(
            f"{error}. The record is in {directory.folder}: the same command or `make sync` will deliver it"
        )
