"""Prints how each job of a sweep ended, as its record says, also after an interruption."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from evidence.config.compose import Request
from evidence.display import terminal
from evidence.display.terminal import clock
from evidence.records.damage import left_out
from evidence.records.directory import RunDirectory, shown_folder
from evidence.records.record import Record
from evidence.sweeps.notes import JobNotes, Note
from evidence.sweeps.plan import PlannedJob, distinguishing

NUMBERS = ["test NLL", "active units", "time"]


class Outcome(NamedTuple):
    """How a job ended: FINISHED, FAILED with a reason, KILLED, RUNNING in another process, or not begun."""

    name: str
    folder: Path | None
    status: str
    reason: str
    record: Record | None


def outcomes(request: Request, planned: Sequence[PlannedJob], job_notes: JobNotes) -> list[Outcome]:
    """The outcome of every job. A search has those of the jobs that it began."""
    notes = job_notes.notes()
    if request.is_search:
        names = distinguishing([note.overrides for note in notes.values()])
        return [_outcome(name, None, note) for name, note in zip(names, notes.values(), strict=True)]
    return [
        _outcome(each.name, each.located.directory.folder, notes.get(each.computed_by)) for each in planned
    ]


def show(request: Request, found: Sequence[Outcome], root: Path) -> None:
    """Print a table of the jobs, a search's best job, and on stderr why jobs failed."""
    rows = []
    for each in found:
        folder = shown_folder(each.folder, root) if each.record and each.folder else ""
        rows.append([each.name, each.status, *_numbers(each.record), folder])
    terminal.table(["job", "status", *NUMBERS, "folder"], rows, NUMBERS)
    ended = [
        (each.record.metrics["valid/nll"], each.name)
        for each in found
        if each.record and each.status == "FINISHED" and "valid/nll" in each.record.metrics
    ]
    if request.is_search and ended:
        nll, name = min(ended)
        terminal.line(f"  lowest valid/nll {nll:.2f}: {name}")
    failed = [each for each in found if each.status == "FAILED"]
    if failed:
        terminal.note(f"{len(failed)} of {len(found)} jobs failed:")
    for each in failed:
        terminal.note(f"  {each.name}: {each.reason}")


def exit_status(found: Sequence[Outcome]) -> int:
    """The exit status of a sweep that was not interrupted: 0 if all its jobs finished, else 1."""
    statuses = {each.status for each in found}
    if "FAILED" not in statuses and statuses - {"FINISHED"}:
        terminal.note(
            "some jobs have not finished and left no error; if they ran on other machines, paths.outputs must lie on"
            " a disk that all machines share"
        )
    return 0 if statuses <= {"FINISHED"} else 1


def _numbers(record: Record | None) -> tuple[str, str, str]:
    """The cells of NUMBERS. They are empty where the run has not finished, or its record is damaged."""
    if record is not None and record.status == "FINISHED":
        metrics = record.metrics
        with left_out(Path(record.path)):
            return (
                f"{metrics['test/nll']:.2f} ± {metrics['test/nll_se']:.2f}",
                f"{metrics['test/active_units']:.0f}",
                clock(metrics["speed/train_seconds"] + metrics["speed/eval_seconds"]),
            )
    return "", "", ""


def _outcome(name: str, folder: Path | None, note: Note | None) -> Outcome:
    if note is not None and note.folder:
        folder = Path(note.folder)
    record = None
    if folder is not None:
        with left_out(folder):
            record = RunDirectory(folder).read()
    if note is not None and note.status != "BEGUN":
        ended = "FINISHED" if note.status == "ENDED" else "FAILED"
        return Outcome(name, folder, ended, note.error, record)
    if record is None:
        return Outcome(name, folder, "not begun", "", None)
    status: str = record.status
    if status == "RUNNING" and folder is not None:
        with RunDirectory(folder).try_locked() as is_free:
            status = "KILLED" if is_free else status  # a vanished process leaves the lock free
    return Outcome(name, folder, status, record.error or "", record)
