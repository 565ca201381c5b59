"""What the jobs of a sweep tell the process that began it, and one another.

They run in that process, in others or on other machines, and the jobs of a search are not known before they begin.
So each leaves a note in the sweep's folder (hydra.sweep.dir), which therefore has to lie where all of them reach it.
"""

import hashlib
import json
from pathlib import Path
from typing import Literal, NamedTuple

from evidence.records import files


class Note(NamedTuple):
    """A job's number and overrides, the folder of its run, how far it came, and what went wrong."""

    number: int
    overrides: list[str]
    folder: str | None = None
    status: Literal["BEGUN", "ENDED", "FAILED"] = "BEGUN"
    error: str = ""


class JobNotes:
    """The notes in a sweep's folder, one file for each job."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def clear(self) -> None:
        """Forget an earlier sweep in the same folder."""
        for pattern in ("job-*.json", "claim-*"):
            for path in self._folder.glob(pattern):
                path.unlink()

    def write(self, note: Note) -> None:
        """Leave a note, over an older one of the same job."""
        path = self._folder / f"job-{note.number}.json"
        files.write(path, json.dumps(note._asdict()).encode())

    def notes(self) -> dict[int, Note]:
        """All notes, by the number of the job."""
        notes = [Note(**json.loads(path.read_text())) for path in self._folder.glob("job-*.json")]
        return {note.number: note for note in sorted(notes)}

    def has_failure(self) -> bool:
        """Whether any job has failed."""
        return any(note.status == "FAILED" for note in self.notes().values())

    def claim(self, *work: str | None) -> bool:
        """Whether no other job of the sweep has claimed this work before."""
        name = f"claim-{hashlib.sha256(repr(work).encode()).hexdigest()[:16]}"
        try:
            (self._folder / name).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True
