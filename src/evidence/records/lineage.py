"""Finds the records that one path of parameters has, and their checkpoints."""

import contextlib
from collections.abc import Iterable, Iterator

from evidence.errors import UserError
from evidence.records.checkpoints import Checkpoint, load
from evidence.records.damage import left_out
from evidence.records.directory import RunDirectory, stored
from evidence.records.record import Record

SAME_PATH = (  # entries in which the records on one path of parameters agree
    "train_identity",
    "training_code",
    "data_digest",
    "mixed",
)


def end(directory: RunDirectory) -> Checkpoint:
    """The checkpoint at the end of a finished run.

    A run that was only evaluated has it in another directory of its path.
    Raises: UserError where there is none, or a damaged one.
    """
    record = directory.read() or Record()
    own = checkpoint_at([directory], record.steps)  # most have it, and need no look at all other records
    found = own or checkpoint_at(same_path(directory, record), record.steps)
    if found is None:
        raise UserError(f"{directory.folder.name}: its last checkpoint is missing or damaged")
    return found


def same_path(directory: RunDirectory, record: Record) -> list[RunDirectory]:
    """The directory of a run, and those of runs that the same code took along the same path, of any length."""
    known = {key: getattr(record, key) for key in SAME_PATH}
    others = (each for each in stored(directory.folder.parent) if each.directory.folder != directory.folder)
    return [
        directory,
        *(other for other, record in others if all(getattr(record, key) == known[key] for key in known)),
    ]


def checkpoint_at(directories: Iterable[RunDirectory], step: int) -> Checkpoint | None:
    """The undamaged checkpoint at this very step. None where there is none."""
    return next(undamaged(directories, range(step, step + 1)), None)


def undamaged(directories: Iterable[RunDirectory], steps: range) -> Iterator[Checkpoint]:
    """The checkpoints at these steps that can be read, the furthest first.

    Of two checkpoints at one step the first is that of the first directory.
    """
    found = [
        (step, path)
        for directory in directories
        for step, path in directory.checkpoints().items()
        if step in steps
    ]
    for step, path in sorted(found, key=lambda entry: -entry[0]):
        with left_out(path), contextlib.suppress(FileNotFoundError):  # its process may have dropped it
            yield Checkpoint(step, load(path), path)


def latest_checkpoint(directories: Iterable[RunDirectory], last_step: int) -> Checkpoint | None:
    """The furthest undamaged checkpoint at or before `last_step`. None where there is none."""
    return next(undamaged(directories, range(last_step + 1)), None)


def latest_commit(directories: Iterable[RunDirectory], last_step: int) -> Checkpoint | None:
    """The furthest undamaged checkpoint whose rows in metrics.csv can be read too. None where there is none."""
    for found in undamaged(directories, range(last_step + 1)):
        origin = RunDirectory(found.path.parents[1])
        with left_out(origin.folder):
            origin.read_metrics(found.state["metrics_size"])
            return found
    return None
