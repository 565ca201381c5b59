"""Finds the records that one path of parameters has, and the checkpoint at a finished run's end."""

from collections.abc import Iterable

from evidence.errors import UserError
from evidence.records.checkpoints import Checkpoint
from evidence.records.directory import RunDirectory, stored, undamaged
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
