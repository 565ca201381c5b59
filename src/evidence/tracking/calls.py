"""Calls to MLflow that end: soon, undisturbed, and if in failure with one line.

Left alone, it would retry a dead server for minutes, end in a traceback, and be left locked by a Ctrl-C.
"""

import contextlib
import os
import re
import signal
import sqlite3
import textwrap
import threading
from collections.abc import Iterator
from importlib.metadata import version

from evidence.errors import UserError


def without_password(uri: str) -> str:
    """The URI as it may be shown or kept."""
    return re.sub(r"//[^/@]*@", "//", uri)


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
def store_errors(uri: str) -> Iterator[None]:
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
