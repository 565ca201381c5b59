"""Connects to the MLflow store.

Without this, MLflow puts artifacts below the current folder. It also lets two processes create one store at the
same time, which can damage the store for good.
"""

import contextlib
import functools
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from logging import CRITICAL, Logger, getLogger
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from filelock import FileLock

from evidence.errors import UserError
from evidence.records import files
from evidence.startup import without_garbage_collection
from evidence.tracking.calls import store_errors

if TYPE_CHECKING:
    from mlflow import MlflowClient


class NoStore(UserError):
    """There is no store to read."""


class Store(NamedTuple):
    """The store and the experiment of runs.

    Without `uri` the store is `mlflow.db` in `root`, as `mlflow ui` expects it.
    The artifacts of a SQLite store are in `mlruns` beside it. A server chooses its own place.
    """

    uri: str | None
    experiment: str
    root: Path


@functools.cache
@without_garbage_collection()
def connect(store: Store) -> tuple["MlflowClient", str, str]:
    """A client, the id of the experiment, and the URI."""
    _quieten()
    from mlflow import MlflowClient

    uri = store.uri or _default(store.root)
    with store_errors(uri), _loggers_left_alone(), _alone_in(uri) as location:
        client = MlflowClient(uri)
        return client, _experiment_id(client, store.experiment, location), uri


@without_garbage_collection()
def reader(uri: str | None, root: Path) -> tuple["MlflowClient", str]:
    """A client that only reads, and the URI. It makes no store and no experiment.

    Raises: UserError where there is no store.
    """
    _quieten()
    from mlflow import MlflowClient

    uri = uri or _default(root)
    file = _file(uri)
    if file is not None and not file.exists():
        raise NoStore(
            f"there is no MLflow store {file}: a run makes it, or MLFLOW_TRACKING_URI names another"
        )
    with store_errors(uri), _loggers_left_alone():
        if file is not None:
            _check(file)
        return MlflowClient(uri), uri


@contextlib.contextmanager
def _loggers_left_alone() -> Iterator[None]:
    """Keep the loggers enabled. The migrations that make a fresh store disable every logger."""
    others = [
        each for each in Logger.manager.loggerDict.values() if isinstance(each, Logger) and not each.disabled
    ]
    yield
    for each in others:
        each.disabled = False


@contextlib.contextmanager
def _alone_in(uri: str) -> Iterator[str | None]:
    """For a SQLite store: lock it, and yield the folder of artifacts. For any other store: yield None."""
    store = _file(uri)
    if store is None:
        yield None
        return
    store.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{store}.lock"):
        if not store.exists():
            files.write(store, _empty_store())
        _check(store)
        yield str(store.parent / "mlruns")


def _default(root: Path) -> str:
    return f"sqlite:///{root.resolve() / 'mlflow.db'}"


def _file(uri: str) -> Path | None:
    """The file of a SQLite store. None for any other store."""
    prefix = "sqlite:///"
    return Path(uri.removeprefix(prefix)).resolve() if uri.startswith(prefix) else None


def _check(store: Path) -> None:
    """Raise sqlite3.Error for a file that is no database. MLflow would try for minutes to read it."""
    with contextlib.closing(sqlite3.connect(store)) as connection:
        connection.execute("PRAGMA schema_version")


def _quieten() -> None:
    """Let MLflow print nothing and send nothing to others. Its errors come as exceptions, and are printed once."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    for chatter in ("mlflow", "alembic"):
        getLogger(chatter).setLevel(CRITICAL)


def _empty_store() -> bytes:
    """The bytes of an empty store, made in a temporary folder.

    MLflow can neither use nor repair a store if the process that made it died on the way.
    """
    from mlflow import MlflowClient

    with tempfile.TemporaryDirectory() as folder:
        MlflowClient(f"sqlite:///{folder}/mlflow.db")
        with contextlib.closing(sqlite3.connect(f"{folder}/mlflow.db")) as connection:
            return connection.serialize()


def _experiment_id(client: "MlflowClient", name: str, location: str | None) -> str:
    """The experiment's id. It is created first, since two processes could both find it missing."""
    from mlflow.exceptions import MlflowException

    folder = None if location is None else (Path(location) / quote(name, safe="")).as_uri()
    try:
        return client.create_experiment(name, artifact_location=folder)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    found = client.get_experiment_by_name(name)
    assert found is not None  # it exists, as MLflow has just said
    if found.lifecycle_stage == "deleted":
        restore = f"mlflow experiments restore --experiment-id {found.experiment_id}"
        raise UserError(f"the MLflow experiment '{name}' was deleted: `{restore}`, or choose another name=")
    return found.experiment_id
