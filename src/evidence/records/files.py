"""Writes files atomically: whole or not at all, at whatever moment a process or the machine dies."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


def write(path: Path, *chunks: bytes) -> None:
    """Replace the file's content by the chunks.

    After a crash at any moment the old content or the new one is there.
    Raises: OSError where it cannot be written. The old file is then unchanged.
    """
    with replacing(path) as file:
        file.writelines(chunks)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Yield an open file that becomes `path` when the block ends. If anything is raised, the old file stays.

    Raises: OSError where it cannot be written.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)  # on a full disk, this frees space for the error's record
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)  # otherwise a power cut could undo the renaming
    finally:
        os.close(directory)
