"""Files that are there whole or not at all, whatever moment a process or the machine dies at."""

import os
from pathlib import Path


def write(path: Path, *chunks: bytes) -> None:
    """Replace the file by the chunks: after a crash at any moment the old content or the new one is there.

    Raises: OSError where it cannot be written; the old file is then as it was.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            file.writelines(chunks)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)  # on a full disk, room for the word that it is full
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)  # else a power cut could undo the renaming
    finally:
        os.close(directory)
