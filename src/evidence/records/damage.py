"""Names a damaged file of a record, so that a command leaves the record out and goes on.

What lies below `paths.outputs` may be torn, empty, unreadable, or of another program. Whoever reads one file turns
what that raises into `Damaged`. Whoever goes through many records leaves out those that are damaged.
"""

import contextlib
import csv
import functools
import logging
from collections.abc import Iterator
from pathlib import Path

import yaml
from pydantic import ValidationError

from evidence.config import messages
from evidence.display import terminal
from evidence.errors import UserError

log = logging.getLogger("evidence")  # the log of the run that is being computed
# What reading a damaged file raises, and what using its content raises.
FAULTS = (
    OSError,
    LookupError,
    TypeError,
    ValueError,
    ArithmeticError,
    AttributeError,
    RecursionError,
    csv.Error,
    yaml.YAMLError,
)


class Damaged(UserError):
    """A file of a record cannot be read. The message names it and says why."""


def damaged(path: Path, reason: str) -> Damaged:
    """The error about a file."""
    return Damaged(f"{path} cannot be read ({reason})")


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what the file's content raises inside the block into Damaged.

    Raises: FileNotFoundError or NotADirectoryError where there is no file. A broken link is damage.
    """
    try:
        yield
    except (FileNotFoundError, NotADirectoryError):
        broken = [each for each in (path, path.parent) if each.is_symlink() and not each.exists()]
        if not broken:
            raise
        raise damaged(path, f"{broken[0].name} is a broken link") from None
    except FAULTS as error:
        raise damaged(path, _reason(error)) from error


@contextlib.contextmanager
def left_out(path: Path) -> Iterator[None]:
    """Leave out the record or file `path` where the block finds it damaged. Say so once in a process."""
    try:
        yield
    except Damaged as error:
        _note_once(f"{error}: left out")
    except FAULTS as error:
        _note_once(f"{path} cannot be used ({_reason(error)}): left out")


@functools.cache
def _note_once(text: str) -> None:
    log.info("%s", text)
    terminal.note(text)


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        return messages.one_line(f"{messages.dotted(first['loc'])}: {first['msg']}".removeprefix(": "))
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return messages.one_line(f"{type(error).__name__}: {error}")
