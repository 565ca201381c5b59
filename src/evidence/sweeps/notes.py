"""Keeps the notes that the jobs of a sweep leave for its first process, and for one another.

Jobs may run in other processes or on other machines, and a search chooses its jobs as it goes. So each job leaves a
note in the sweep's folder (hydra.sweep.dir). All of them must be able to write to that folder.
"""

import contextlib
import hashlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import TypeAdapter

from evidence.records import files
from evidence.records.damage import left_out, reading
from evidence.records.record import Sweep


class Note(NamedTuple):
    """A job's number and overrides, its run's folder, whether it has ended, and the error where it failed."""

    number: int
    overrides: list[str]
    folder: str | None = None
    status: Literal["BEGUN", "ENDED", "FAILED"] = "BEGUN"
    error: str = ""


NOTE = TypeAdapter(Note)
SWEEP_FILE = "sweep.json"


class JobNotes:
    """The notes in a sweep's folder, one file for each job."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def clear(self) -> None:
        """Delete what an earlier sweep has left in the same folder."""
        for path in self._folder.glob("job-*.json"):
            path.unlink()
        for path in self._folder.glob("claimed-*"):
            shutil.rmtree(path)

    def write_sweep(self, sweep: Sweep) -> None:
        """Write which sweep this is, before its first job. Where that is not possible, the jobs say so."""
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            files.write(self._folder / SWEEP_FILE, sweep.model_dump_json().encode())

    def sweep(self) -> Sweep | None:
        """Which sweep this is. None where its file cannot be read."""
        path = self._folder / SWEEP_FILE
        with contextlib.suppress(FileNotFoundError), left_out(path), reading(path):
            return Sweep.model_validate_json(path.read_bytes())
        return None

    def write(self, note: Note) -> None:
        """Write a job's note, which replaces its earlier one."""
        path = self._folder / f"job-{note.number}.json"
        files.write(path, json.dumps(note._asdict()).encode())

    def notes(self) -> dict[int, Note]:
        """All notes, by the number of the job. A file that is none is named on stderr and left out."""
        notes = []
        for path in sorted(self._folder.glob("job-*.json")):
            with left_out(path), reading(path):
                notes.append(NOTE.validate_json(path.read_bytes()))
        return {note.number: note for note in sorted(notes)}

    def has_failure(self) -> bool:
        """Whether any job has failed."""
        return any(note.status == "FAILED" for note in self.notes().values())

    def has_only_failures(self) -> bool:
        """Whether there are jobs, and all of them have failed."""
        return {note.status for note in self.notes().values()} == {"FAILED"}

    def claim(self, number: int, *work: str | None) -> bool:
        """Claim this work for the job of this number. False where another job of the sweep has claimed it.

        A job that a launcher starts a second time has claimed it already.
        """
        path = self._folder / f"claimed-{hashlib.sha256(repr(work).encode()).hexdigest()[:16]}"
        with tempfile.TemporaryDirectory(dir=self._folder, ignore_cleanup_errors=True) as folder:
            claim = Path(folder, "claim")
            (claim / str(number)).mkdir(parents=True)
            try:
                claim.rename(path)  # which replaces no folder that has something in it
            except OSError:
                if not path.is_dir():
                    raise
        return (path / str(number)).exists()
