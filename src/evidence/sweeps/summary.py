"""After the last job, or where a sweep was broken off: how each job ended, read from its record."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.box import SIMPLE
from rich.markup import escape
from rich.table import Table

from evidence.config.compose import Request
from evidence.records.directory import RunDirectory
from evidence.sweeps.notes import JobNotes, Note
from evidence.sweeps.plan import PlannedJob, clock, distinguishing, shown_folder, table_console

NOT_BEGUN = "not begun"


class Outcome(NamedTuple):
    """How a job ended: FINISHED, FAILED (and why), KILLED, RUNNING in another process, or not begun."""

    name: str
    folder: Path | None
    status: str
    reason: str
    result: dict[str, Any]


def outcomes(request: Request, planned: Sequence[PlannedJob], job_notes: JobNotes) -> list[Outcome]:
    """Of every job; of a search, of those that it began."""
    notes = job_notes.notes()
    if request.is_search:
        names = distinguishing([note.overrides for note in notes.values()])
        return [
            _outcome(name, Path(note.folder) if note.folder else None, note)
            for name, note in zip(names, notes.values(), strict=True)
        ]
    names = distinguishing([job.overrides for job in request.jobs])
    found = []
    for number, (name, each) in enumerate(zip(names, planned, strict=True)):
        note = notes.get(number if each.same_as is None else each.same_as)
        folder = Path(note.folder) if note is not None and note.folder else each.place.directory.folder
        found.append(_outcome(name, folder, note))
    return found


def show(request: Request, found: Sequence[Outcome], root: Path) -> None:
    """Print the table of all jobs and what a search has found, and on stderr why some failed."""
    table = Table(box=SIMPLE)
    for title in ("job", "status", "test NLL", "active units", "time", "folder"):
        is_number = title in ("test NLL", "active units", "time")
        table.add_column(title, overflow="fold", justify="right" if is_number else "left")
    for each in found:
        folder = shown_folder(each.folder, root) if each.result and each.folder else ""
        table.add_row(escape(each.name), each.status, *_numbers(each.result), escape(folder))
    console = table_console()
    console.print(table)
    ended = [each for each in found if each.status == "FINISHED"]
    if request.is_search and ended:
        best = min(ended, key=lambda each: float(each.result["metrics"]["valid/nll"]))
        line = f"  lowest valid/nll {best.result['metrics']['valid/nll']:.2f}: {best.name}"
        console.print(line, soft_wrap=True, markup=False, highlight=False)
    failed = [each for each in found if each.status == "FAILED"]
    if failed:
        print(f"evidence: {len(failed)} of {len(found)} jobs failed:", file=sys.stderr)
    for each in failed:
        print(f"evidence:   {each.name}: {each.reason}", file=sys.stderr)


def exit_status(found: Sequence[Outcome]) -> int:
    """Of a sweep that was not broken off: 0 if all its jobs ended well, else 1."""
    statuses = {each.status for each in found}
    if "FAILED" not in statuses and statuses - {"FINISHED"}:
        print(
            "evidence: some jobs left no word; if they ran on other machines, let paths.outputs lie on a disk"
            " that all machines share",
            file=sys.stderr,
        )
    return 0 if statuses <= {"FINISHED"} else 1


def _numbers(result: dict[str, Any]) -> tuple[str, str, str]:
    """test NLL, active units and time, where they are known."""
    if result.get("status") != "FINISHED":
        return "", "", ""
    metrics = result["metrics"]
    return (
        f"{metrics['test/nll']:.2f} ± {metrics['test/nll_se']:.2f}",
        f"{metrics['test/active_units']:.0f}",
        clock(metrics["speed/train_seconds"] + metrics["speed/eval_seconds"]),
    )


def _outcome(name: str, folder: Path | None, note: Note | None) -> Outcome:
    record = None if folder is None else RunDirectory(folder).read()
    result = record.model_dump() if record else {}
    if note is not None and note.status != "BEGUN":
        status = "FINISHED" if note.status == "ENDED" else "FAILED"
        return Outcome(name, folder, status, note.error, result)
    status = result.get("status", NOT_BEGUN)
    if status == "RUNNING" and folder is not None:
        with RunDirectory(folder).try_locked() as is_free:
            status = "KILLED" if is_free else status  # a process that vanished leaves the lock free
    return Outcome(name, folder, status, result.get("error") or "", result)
