"""Makes calls to MLflow end soon, undisturbed by signals, and on failure with one line.

Without this, MLflow retries a dead server for minutes and ends in a traceback. Ctrl-C can leave its store locked.
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
    """The URI without a user's name and password, as it may be shown or kept."""
    return re.sub(r"//[^/@]*@", "//", uri)


@contextlib.contextmanager
def _impatient() -> Iterator[None]:
    """Ask a server once, for eight seconds. MLflow's retries take minutes, in which a run would wait."""
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
    """Delay Ctrl-C and other signals to the end of the block. A call that is cut short may leave the store locked."""
    is_main = threading.current_thread() is threading.main_thread()  # no other has signals
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
    """Raise UserError for any error of the store, without the password that a URI may have."""
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
