"""What may end a run early, other than a fault in the program, and where in a user's own code an error arose."""

import sysconfig
import traceback
from pathlib import Path
from typing import NamedTuple

PACKAGE = str(Path(__file__).parent)
LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})


class UserError(Exception):
    """What the user can mend: one line that names the key or file, and the valid choices or what to do."""


class Terminated(BaseException):
    """SIGTERM, raised where the program stands, as Python does with Ctrl-C and KeyboardInterrupt."""


class Location(NamedTuple):
    """A line of a file."""

    file: str
    line: int


def own_location(error: BaseException) -> Location | None:
    """The innermost line of a user's file that this package or a library called; None where there is none."""
    if isinstance(error, SyntaxError) and error.filename:
        return Location(Path(error.filename).name, error.lineno or 0)
    found, is_within = None, False
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename.startswith((PACKAGE, *LIBRARIES, "<")):
            is_within = True
        elif is_within:
            found = Location(Path(frame.filename).name, frame.lineno or 0)
    return found


def one_line(error: BaseException) -> str:
    """What an error says, with its type where the words alone may not tell, and the line of a user's file."""
    said = " ".join((error.msg if isinstance(error, SyntaxError) else str(error)).split())
    if isinstance(error, UserError):
        return said
    if not isinstance(error, ImportError | SyntaxError):
        said = f"{type(error).__name__}: {said}"
    place = own_location(error)
    return said if place is None else f"{place.file}: {said} (line {place.line})"
