"""Recording runs in MLflow. The only file that imports it, not before a run is opened: that takes seconds.

One client, one run id, no global state. Left alone, MLflow would put artifacts under the current folder, let
two processes create one store at the same time, retry a dead server for minutes and end in a traceback.
"""

import contextlib
import functools
import math
import os
import re
import signal
import sqlite3
import tempfile
import textwrap
import threading
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from logging import CRITICAL, Logger, getLogger
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple
from urllib.parse import quote

from filelock import FileLock

from evidence import files
from evidence.errors import UserError
from evidence.importing import uncollected

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

BATCH = 1000  # metrics that MLflow takes in one call
HEARTBEAT = (
    "heartbeat"  # the tag with the time, in seconds since 1970, at which a run's process was last seen alive
)

Status = Literal["FINISHED", "FAILED", "KILLED"]


class Store(NamedTuple):
    """Where runs are recorded: without `uri`, `mlflow.db` in `root`, where a plain `mlflow ui` finds it.

    A SQLite store's artifacts lie in `mlruns` beside it; a server decides for itself.
    """

    uri: str | None
    experiment: str
    root: Path


class MLflowRun:
    """One run in an MLflow store; every method raises UserError when the store fails."""

    def __init__(self, client: "MlflowClient", run: "Run", uri: str) -> None:
        self.run_id: str = run.info.run_id
        self.status: str = run.info.status
        self.tags: dict[str, str] = run.data.tags
        self._client, self._uri = client, uri
        self._started, self._has_params = run.info.start_time, bool(run.data.params)

    def last_steps(self) -> dict[str, int]:
        """The last step of each metric that the store has."""
        with _asking(self._uri):
            names = self._client.get_run(self.run_id).data.metrics
            return {
                name: max(metric.step for metric in self._client.get_metric_history(self.run_id, name))
                for name in names
            }

    def log(self, rows: Sequence[tuple[str, float, int]]) -> None:
        """Metrics as (name, value, step). MLflow stores an infinity as 1.8e308, so it is logged as NaN."""
        from mlflow.entities import Metric

        now = _now()
        metrics = [
            Metric(name, value if math.isfinite(value) else math.nan, now, step) for name, value, step in rows
        ]
        with _asking(self._uri):
            for start in range(0, len(metrics), BATCH):
                self._client.log_batch(self.run_id, metrics=metrics[start : start + BATCH])

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """Copy the file to the run's artifacts, below `folder`."""
        with _asking(self._uri):
            self._client.log_artifact(self.run_id, str(path), folder)

    def describe(self, params: dict[str, str | int | float], tags: dict[str, str]) -> None:
        """Log the params, once and for all, and set tags, over older values."""
        from mlflow.entities import Param, RunTag

        new = [] if self._has_params else [Param(key, str(value)) for key, value in params.items()]
        with _asking(self._uri):
            self._client.log_batch(
                self.run_id, params=new, tags=[RunTag(key, value) for key, value in tags.items()]
            )
            self._has_params = True

    def resume(self) -> None:
        """Set the status to RUNNING."""
        with _asking(self._uri):
            self._client.update_run(self.run_id, status="RUNNING")

    def beat(self) -> None:
        """Note that the run's process is alive."""
        with _asking(self._uri):
            self._client.set_tag(self.run_id, HEARTBEAT, str(time.time()))

    def close(self, status: Status) -> None:
        """Set the run's final status and its end time, which no clock that was set back puts before its start."""
        with _asking(self._uri):
            self._client.set_terminated(self.run_id, status, end_time=max(_now(), self._started))
            self.status = status


def prepare(store: Store) -> None:
    """Make the store and the experiment, once and under a lock, where they are not there.

    Raises: UserError when the store cannot be reached or used.
    """
    _connect(store)


def find_run(store: Store, record: str) -> MLflowRun | None:
    """The experiment's run of a record, which its tag `record` tells; raises UserError as `prepare` does."""
    client, experiment_id, uri = _connect(store)
    with _asking(uri):
        found = client.search_runs([experiment_id], f"tags.record = '{record}'")
        return MLflowRun(client, found[0], uri) if found else None


def create_run(store: Store, name: str, tags: dict[str, str]) -> MLflowRun:
    """A new run in the experiment; its tags, `record` among them, are there from the first moment."""
    client, experiment_id, uri = _connect(store)
    with _asking(uri):
        return MLflowRun(client, client.create_run(experiment_id, run_name=name, tags=tags), uri)


def running(store: Store) -> list[MLflowRun]:
    """The runs of records, in any experiment of the store, that say they are running."""
    client, _, uri = _connect(store)
    with _asking(uri):
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        found = client.search_runs(experiments, "attributes.status = 'RUNNING' and tags.record LIKE '%'")
        return [MLflowRun(client, run, uri) for run in found]


def without_password(uri: str) -> str:
    """The URI as it may be shown or kept."""
    return re.sub(r"//[^/@]*@", "//", uri)


@functools.cache
@uncollected()
def _connect(store: Store) -> tuple["MlflowClient", str, str]:
    """A client, the id of the experiment, and the URI."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # a run tells nobody else about itself
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    from mlflow import MlflowClient

    for chatter in ("mlflow", "alembic"):
        getLogger(chatter).setLevel(CRITICAL)  # what goes wrong comes as an exception, and is told once
    uri = store.uri or f"sqlite:///{store.root.resolve() / 'mlflow.db'}"
    with _asking(uri), _loggers_left_alone(), _alone_in(uri) as location:
        client = MlflowClient(uri)
        return client, _experiment_id(client, store.experiment, location), uri


def _now() -> int:
    return int(time.time() * 1000)


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
        if not store.exists():
            files.write(store, _empty_store())
        with contextlib.closing(sqlite3.connect(store)) as connection:
            connection.execute(
                "PRAGMA schema_version"
            )  # MLflow tries for minutes to read what is no database
        yield str(store.parent / "mlruns")


def _empty_store() -> bytes:
    """Made elsewhere, since MLflow can neither use nor mend a store whose process died while making it."""
    from mlflow import MlflowClient

    with tempfile.TemporaryDirectory() as folder:
        MlflowClient(f"sqlite:///{folder}/mlflow.db")
        with contextlib.closing(sqlite3.connect(f"{folder}/mlflow.db")) as connection:
            return connection.serialize()


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


@contextlib.contextmanager
def _impatient() -> Iterator[None]:
    """Ask a server once, for eight seconds: a run must not stand still for MLflow's minutes of retries."""
    wanted = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "8"}
    ours = {key: value for key, value in wanted.items() if key not in os.environ}
    os.environ.update(ours)
    try:
        yield
    finally:
        for key in ours:
            del os.environ[key]


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Ctrl-C and other signals wait for the end of the block: a call cut short may leave the store locked."""
    is_main = threading.current_thread() is threading.main_thread()  # no other thread sees signals
    handlers = {each: signal.getsignal(each) for each in signal.valid_signals()} if is_main else {}
    handlers = {each: handler for each, handler in handlers.items() if callable(handler)}
    came: list[int] = []
    for each in handlers:
        signal.signal(each, lambda number, _: came.append(number))
    try:
        yield
    finally:
        for each, handler in handlers.items():
            signal.signal(each, handler)
        for number in came:
            signal.raise_signal(number)


@contextlib.contextmanager
def _asking(uri: str) -> Iterator[None]:
    """Raise UserError for whatever goes wrong in the store, without the password that a URI may hold."""
    from alembic.util import CommandError
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        with _undisturbed(), _impatient():
            yield
    except (MlflowException, CommandError, SQLAlchemyError, sqlite3.Error, OSError) as error:
        store, reason = map(without_password, (uri, str(error)))
        if isinstance(error, CommandError) or "database schema" in reason:
            raise UserError(
                f"the MLflow store {store} does not suit the installed MLflow {version('mlflow')}:"
                f" back it up and run `mlflow db upgrade {store}`, install the version that wrote it, or set"
                " MLFLOW_TRACKING_URI to another store"
            ) from error
        if "Max retries exceeded" in reason:
            reason = "no answer"
        raise UserError(
            f"the MLflow store {store} cannot be used ({textwrap.shorten(reason, 200, placeholder=' ...')}):"
            " start its server, correct MLFLOW_TRACKING_URI, or run with tracking=none"
        ) from error
