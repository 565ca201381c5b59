"""Files that are there whole or not at all, whatever moment a process or the machine dies at."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


def write(path: Path, *chunks: bytes) -> None:
    """Replace the file by the chunks: after a crash at any moment the old content or the new one is there.

    Raises: OSError where it cannot be written; the old file is then as it was.
    """
    with replacing(path) as file:
        file.writelines(chunks)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """An open file that becomes `path` when the block ends, whole; the old file stays where anything is raised.

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
        temporary.unlink(missing_ok=True)  # on a full disk, room for the word that it is full
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)  # else a power cut could undo the renaming
    finally:
        os.close(directory)
