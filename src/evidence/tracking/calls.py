"""Makes calls to MLflow end soon, undisturbed by signals, and on failure with one line.

Without this, MLflow retries a dead server for minutes and ends in a traceback. Ctrl-C can leave its store locked.
"""

import contextlib
import os
import re
import signal
import textwrap
import threading
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from urllib.parse import unquote

from evidence import passwords
from evidence.errors import UserError

PACKAGES = {
    "MySQLdb": "mysqlclient",
    "psycopg2": "psycopg2-binary",
}  # by their module, where it has another name
NO_ANSWER = re.compile(r"Max retries exceeded|failed with (timeout )?exception")
AWAY = re.compile(r"failed with error code 5\d\d")  # a proxy's answer, not MLflow's


class StoreUnavailable(UserError):
    """The store does not answer, or lets nobody in, or is none."""


class StoreRefused(UserError):
    """The store answers, but does not take what it was sent. It takes other things, and other runs."""


@contextlib.contextmanager
def _environment(uri: str) -> Iterator[None]:
    """Give MLflow the address's user and password, and let it ask a server once, for eight seconds.

    MLflow's retries take minutes, in which a run would wait. What the user has set in the environment is kept, except
    a user and a password where the address has them.
    """
    patience = {
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "8",
        "PGCONNECT_TIMEOUT": "8",
    }
    ours = {key: value for key, value in patience.items() if key not in os.environ}
    address = passwords.split(uri)
    if address.password and uri.startswith("http"):
        ours["MLFLOW_TRACKING_USERNAME"] = unquote(address.user)
        ours["MLFLOW_TRACKING_PASSWORD"] = unquote(address.password)
    before = {key: os.environ.get(key) for key in ours}
    os.environ.update(ours)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                del os.environ[key]
            else:
                os.environ[key] = value


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Delay Ctrl-C and other signals to the end of the block. A call that is cut short may leave the store locked."""
    if threading.current_thread() is not threading.main_thread():  # no other has signals
        yield
        return
    handlers = {each: signal.getsignal(each) for each in signal.valid_signals()}
    handlers = {each: handler for each, handler in handlers.items() if callable(handler)}
    came: list[int] = []
    with _held_back(handlers):
        for each in handlers:
            signal.signal(each, lambda number, _: came.append(number))
    try:
        yield
    finally:
        with _held_back(handlers):
            for each, handler in handlers.items():
                signal.signal(each, handler)
            for number in came:
                signal.raise_signal(number)


@contextlib.contextmanager
def _held_back(signals: Iterable[int]) -> Iterator[None]:
    """The system keeps the signals until the block's end. So none arrives when only a part of the handlers is set."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def store_errors(uri: str, what: str | None = None) -> Iterator[None]:
    """Raise StoreUnavailable for any error of the store at `uri`.

    `what` names what the block sends of one run. If the store answers and does not take it, StoreRefused is raised.
    """
    try:
        with _undisturbed(), _environment(uri):
            yield
    except UserError:
        raise
    except Exception as error:  # a store of artifacts raises exceptions of its own, such as boto3's
        raise _explained(uri, error, what) from error


def _explained(uri: str, error: Exception, what: str | None) -> UserError:
    from alembic.util import CommandError
    from sqlalchemy.exc import OperationalError

    reason, code = passwords.masked(str(error)), getattr(error, "error_code", None)
    short = textwrap.shorten(reason, 200, placeholder=" ...")
    if isinstance(error, CommandError) or "database schema" in reason:
        return StoreUnavailable(
            f"the MLflow store {uri} does not suit the installed MLflow {version('mlflow')}:"
            f" back it up and run `mlflow db upgrade {uri}`, install the version that wrote it, or set"
            " MLFLOW_TRACKING_URI to another store"
        )
    if code in ("UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED") or "error code 401" in reason:
        return StoreUnavailable(
            f"the MLflow store {uri} does not let this user in: user or password is missing or wrong: set"
            " MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or run with tracking=none"
        )
    remedy = "start its server, correct MLFLOW_TRACKING_URI, or run with tracking=none"
    if code == "PERMISSION_DENIED" or "error code 403" in reason:
        short = "this user lacks the permission"
        remedy = "ask for it, choose another name=, or run with tracking=none"
    if isinstance(error, ImportError):
        missing = (error.name or reason).partition(".")[0]
        short = f"its module {missing} is not installed"
        remedy = f"pip install {PACKAGES.get(missing, missing)}"
    if NO_ANSWER.search(reason):
        short = "no answer"
    is_away = short == "no answer" or AWAY.search(reason) or code == "TEMPORARILY_UNAVAILABLE"
    if what is not None and not is_away and not isinstance(error, OperationalError):
        return StoreRefused(f"the MLflow store {uri} does not take {what} ({short})")
    return StoreUnavailable(f"the MLflow store {uri} cannot be used ({short}): {remedy}")
