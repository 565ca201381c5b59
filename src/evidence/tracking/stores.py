"""Where runs are recorded, and the way in.

Left alone, MLflow would put artifacts under the current folder, and let two processes create one store at the same
time, which can break it for good.
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


class Store(NamedTuple):
    """Where runs are recorded: without `uri`, `mlflow.db` in `root`, where a plain `mlflow ui` finds it.

    A SQLite store's artifacts lie in `mlruns` beside it; a server decides for itself.
    """

    uri: str | None
    experiment: str
    root: Path


@functools.cache
@without_garbage_collection()
def connect(store: Store) -> tuple["MlflowClient", str, str]:
    """A client, the id of the experiment, and the URI."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # a run tells nobody else about itself
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    from mlflow import MlflowClient

    for chatter in ("mlflow", "alembic"):
        getLogger(chatter).setLevel(CRITICAL)  # what goes wrong comes as an exception, and is told once
    uri = store.uri or f"sqlite:///{store.root.resolve() / 'mlflow.db'}"
    with store_errors(uri), _loggers_left_alone(), _alone_in(uri) as location:
        client = MlflowClient(uri)
        return client, _experiment_id(client, store.experiment, location), uri


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
