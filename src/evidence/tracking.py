"""Recording runs in MLflow. The only file that imports it, not before a run is opened: that takes seconds.

One client, one run id, no global state. Left alone, MLflow would put artifacts under the current folder, let
two processes create one store at the same time, retry a dead server for minutes and end in a traceback.
"""

import contextlib
import math
import os
import platform
import re
import socket
import sqlite3
import subprocess
import textwrap
import time
from collections.abc import Iterator, Sequence
from importlib import metadata
from logging import CRITICAL, Logger, getLogger
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol
from urllib.parse import quote

from filelock import FileLock

from evidence.errors import UserError

if TYPE_CHECKING:
    from mlflow import MlflowClient

BATCH = 1000  # metrics that MLflow takes in one call

Status = Literal["FINISHED", "FAILED", "KILLED"]


class Tracking(Protocol):
    """Where a run's numbers and files go."""

    run_id: str | None

    def log(self, rows: Sequence[tuple[str, float, int]]) -> None:
        """Metrics as (name, value, step); a value that is not finite is kept as NaN."""

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """Keep a copy of the file."""

    def tag(self, key: str, value: str) -> None:
        """Set one tag, over an older value."""

    def close(self, status: Status) -> None:
        """The run's last word."""


class NoTracking:
    """`tracking=none`: keeps nothing."""

    run_id: str | None = None

    def log(self, rows: Sequence[tuple[str, float, int]]) -> None: ...

    def artifact(self, path: Path, folder: str | None = None) -> None: ...

    def tag(self, key: str, value: str) -> None: ...

    def close(self, status: Status) -> None: ...


class MLflowRun:
    """One run in an MLflow store; every method raises UserError when the store fails."""

    def __init__(self, client: "MlflowClient", run_id: str, uri: str) -> None:
        self.run_id: str | None = run_id
        self._client, self._id, self._uri = client, run_id, uri

    def log(self, rows: Sequence[tuple[str, float, int]]) -> None:
        """Metrics as (name, value, step). MLflow stores an infinity as 1.8e308, so it is logged as NaN."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [
            Metric(name, value if math.isfinite(value) else math.nan, now, step) for name, value, step in rows
        ]
        with _in_one_line(self._uri):
            for start in range(0, len(metrics), BATCH):
                self._client.log_batch(self._id, metrics=metrics[start : start + BATCH])

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """Copy the file to the run's artifacts, below `folder`."""
        with _in_one_line(self._uri):
            self._client.log_artifact(self._id, str(path), folder)

    def tag(self, key: str, value: str) -> None:
        """Set one tag, over an older value."""
        with _in_one_line(self._uri):
            self._client.set_tag(self._id, key, value)

    def close(self, status: Status) -> None:
        """Set the run's final status and its end time."""
        with _in_one_line(self._uri):
            self._client.set_terminated(self._id, status)


def open_run(
    uri: str | None,
    experiment: str,
    run_name: str,
    params: dict[str, str | int | float],
    tags: dict[str, str],
    root: Path,
    run_id: str | None = None,
) -> MLflowRun:
    """A new run in `experiment`, or `run_id` carried on: its params, logged once, are then left as they are.

    Without `uri` the store is `mlflow.db` in `root`, where a plain `mlflow ui` finds it. A SQLite store's
    artifacts lie in `mlruns` beside it; a server decides for itself. A `run_id` not in the store begins
    a new run. Raises UserError when the store cannot be reached or used.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # a run tells nobody else about itself
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    from mlflow import MlflowClient
    from mlflow.entities import Param, RunTag

    for chatter in ("mlflow", "alembic"):
        getLogger(chatter).setLevel(CRITICAL)  # what goes wrong comes as an exception, and is told once
    uri = uri or f"sqlite:///{root.resolve() / 'mlflow.db'}"
    with _in_one_line(uri):
        with _impatient(), _loggers_left_alone(), _alone_in(uri) as location:
            client = MlflowClient(uri)
            experiment_id = _experiment_id(client, experiment, location)
        if run_id is not None and _holds(client, run_id):
            client.update_run(run_id, status="RUNNING")
        else:
            run_id = client.create_run(experiment_id, run_name=run_name).info.run_id
            client.log_batch(run_id, params=[Param(key, str(value)) for key, value in params.items()])
        client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])
    return MLflowRun(client, run_id, uri)


def provenance() -> dict[str, str]:
    """Which code ran where: git commit and dirty flag ("unknown" outside a checkout), host, versions."""
    commit, changes = _git("rev-parse", "HEAD"), _git("status", "--porcelain")
    return {
        "git_commit": commit or "unknown",
        "git_dirty": "unknown" if changes is None else str(bool(changes)).lower(),
        "host": socket.gethostname(),
        "version_python": platform.python_version(),
        **{f"version_{name}": _version(name) for name in ("evidence", "torch", "mlflow")},
        "version_hydra": _version("hydra-core"),
    }


def _git(*arguments: str) -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "unknown"


@contextlib.contextmanager
def _loggers_left_alone() -> Iterator[None]:
    """The migrations that make a fresh store switch off every logger there is."""
    others = [
        each for each in Logger.manager.loggerDict.values() if isinstance(each, Logger) and not each.disabled
    ]
    yield
    for each in others:
        each.disabled = False


@contextlib.contextmanager
def _alone_in(uri: str) -> Iterator[str | None]:
    """For a SQLite store: hold the lock beside it and give the folder of artifacts; for any other, None."""
    if not uri.startswith("sqlite:///"):
        yield None
        return
    store = Path(uri.removeprefix("sqlite:///")).resolve()
    store.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{store}.lock"):
        with contextlib.closing(sqlite3.connect(store)) as connection:
            connection.execute(
                "PRAGMA schema_version"
            )  # MLflow tries for minutes to read what is no database
        yield str(store.parent / "mlruns")


def _experiment_id(client: "MlflowClient", name: str, location: str | None) -> str:
    """The experiment's id; asking for it first and creating it then would be a race between two processes."""
    from mlflow.exceptions import MlflowException

    folder = None if location is None else (Path(location) / quote(name, safe="")).as_uri()
    try:
        return client.create_experiment(name, artifact_location=folder)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    found = client.get_experiment_by_name(name)
    assert found is not None  # MLflow has just said so
    if found.lifecycle_stage == "deleted":
        restore = f"mlflow experiments restore --experiment-id {found.experiment_id}"
        raise UserError(f"the MLflow experiment '{name}' was deleted: `{restore}`, or choose another name=")
    return found.experiment_id


def _holds(client: "MlflowClient", run_id: str) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        return client.get_run(run_id).info.lifecycle_stage == "active"
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return False


@contextlib.contextmanager
def _impatient() -> Iterator[None]:
    """Ask a server once, for eight seconds: MLflow's minutes of retries suit the middle of a run only."""
    wanted = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "8"}
    ours = {key: value for key, value in wanted.items() if key not in os.environ}
    os.environ.update(ours)
    try:
        yield
    finally:
        for key in ours:
            del os.environ[key]


@contextlib.contextmanager
def _in_one_line(uri: str) -> Iterator[None]:
    """Raise UserError for whatever goes wrong in the store, without the password that a URI may hold."""
    from alembic.util import CommandError
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, CommandError, SQLAlchemyError, sqlite3.Error, OSError) as error:
        store, reason = (re.sub(r"//[^/@]*@", "//", text) for text in (uri, str(error)))
        if isinstance(error, CommandError) or "database schema" in reason:
            raise UserError(
                f"the MLflow store {store} does not suit the installed MLflow {_version('mlflow')}:"
                f" back it up and run `mlflow db upgrade {store}`, install the version that wrote it, or set"
                " MLFLOW_TRACKING_URI to another store"
            ) from error
        if "Max retries exceeded" in reason:
            reason = "no answer"
        raise UserError(
            f"the MLflow store {store} cannot be used ({textwrap.shorten(reason, 200, placeholder=' ...')}):"
            " start its server, correct MLFLOW_TRACKING_URI, or run with tracking=none"
        ) from error
