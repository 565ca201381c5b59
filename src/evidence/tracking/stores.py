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
from evidence.tracking import addresses, view
from evidence.tracking.calls import store_errors

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment


class NoStore(UserError):
    """There is no store to read."""


class Store(NamedTuple):
    """The store and the experiment of runs.

    Without `uri` the store is `mlflow.db` in `root`, as `mlflow ui` expects it.
    The artifacts of a SQLite store are in `mlruns` beside it, those of another database in `mlruns` in `root`. A
    server chooses its own place.
    """

    uri: str | None
    experiment: str
    root: Path


@functools.cache
@without_garbage_collection()
def connect(store: Store) -> tuple["MlflowClient", str, str]:
    """A client, the id of the experiment, and the URI, which may have a password."""
    client_of = _client_class()
    from mlflow.store.db import utils

    utils.MAX_RETRY_COUNT = 1  # it would ask a database that is down for two minutes
    uri = store.uri or addresses.default(store.root)
    with store_errors(uri), _loggers_left_alone():
        place = addresses.read(uri, store.root)
        with _alone_in(place):
            client = client_of(place.uri)
            return client, _experiment_id(client, store.experiment, place.artifacts), uri


@without_garbage_collection()
def reader(root: Path, uri: str | None = None) -> tuple["MlflowClient", str]:
    """A client that only reads, and the URI: this one, MLFLOW_TRACKING_URI, or that of mlflow.db in `root`.

    It makes no store and no experiment.
    Raises: NoStore where there is no store; UserError where it cannot be read.
    """
    client_of = _client_class()
    uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or addresses.default(root)
    with store_errors(uri), _loggers_left_alone():
        place = addresses.read(uri, root)
        if place.file is not None and not place.file.exists():
            raise NoStore(
                f"there is no MLflow store {place.file}: a run makes it, or MLFLOW_TRACKING_URI names another"
            )
        if place.file is not None:
            _check(place.file)
        return client_of(place.uri), uri


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
def _alone_in(place: addresses.Place) -> Iterator[None]:
    """Lock a SQLite store, which is made if it is missing."""
    if place.file is None or place.artifacts is None:
        yield
        return
    place.file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{place.file}.lock"):
        if not place.file.exists():
            files.write(place.file, _empty_store(place.artifacts))
        _check(place.file)
        yield


def _check(store: Path) -> None:
    """Raise sqlite3.Error for a file that is no database. MLflow would try for minutes to read it."""
    with contextlib.closing(sqlite3.connect(store)) as connection:
        connection.execute("PRAGMA schema_version")


def _client_class() -> "type[MlflowClient]":
    """MLflow's client, which prints nothing and sends nothing to others. Errors come as exceptions, printed once."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    from mlflow import MlflowClient

    for chatter in ("mlflow", "alembic"):
        getLogger(chatter).setLevel(CRITICAL)  # importing MLflow sets it
    return MlflowClient


def experiments(client: "MlflowClient") -> Iterator["Experiment"]:
    """All experiments, page by page."""
    token = None
    while token != "":
        page = client.search_experiments(page_token=token)
        yield from page
        token = page.token or ""


def _empty_store(artifacts: Path) -> bytes:
    """The bytes of an empty store, made in a temporary folder.

    MLflow can neither use nor repair a store if the process that made it died on the way. It makes the experiment
    "Default", and puts its artifacts below the current folder.
    """
    from mlflow import MlflowClient

    with tempfile.TemporaryDirectory() as folder:
        MlflowClient(addresses.default(Path(folder)))
        with contextlib.closing(sqlite3.connect(f"{folder}/mlflow.db")) as connection:
            place = (artifacts / "Default").as_uri()
            connection.execute("UPDATE experiments SET artifact_location = ?", (place,))
            connection.commit()
            return connection.serialize()


def _experiment_id(client: "MlflowClient", name: str, artifacts: Path | None) -> str:
    """The experiment's id. It is created first, since two processes could both find it missing."""
    from mlflow.exceptions import MlflowException

    folder = None if artifacts is None else (artifacts / quote(name, safe="")).as_uri()
    try:
        return client.create_experiment(name, artifact_location=folder, tags={view.TAG: view.value()})
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    found = client.get_experiment_by_name(name)
    assert found is not None  # it exists, as MLflow has just said
    if found.lifecycle_stage == "deleted":
        restore = f"mlflow experiments restore --experiment-id {found.experiment_id}"
        raise UserError(f"the MLflow experiment '{name}' was deleted: `{restore}`, or choose another name=")
    return found.experiment_id
