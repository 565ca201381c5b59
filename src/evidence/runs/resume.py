"""Finds where training continues: at the furthest checkpoint of the run's path of parameters, or at the beginning.

The checkpoint is of the run's own record, or of any record that the same code took along the same path. Where there
is none, training starts from the end of the run that `init_from` names, or from the seed.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from evidence import execution, training
from evidence import parts as assembled
from evidence.config.settings import Settings
from evidence.parts import Parts
from evidence.records.directory import RunDirectory, stored
from evidence.records.lineage import end, latest_commit, same_path
from evidence.records.record import Record
from evidence.runs.lookup import LocatedRun, source_of
from evidence.stackable import why_not


class Start(NamedTuple):
    """Where training continues: the step, the seconds spent so far, and the execution.

    origin: the directory of the checkpoint, None where training begins.
    parent: the name of that run, if it is another.
    changes: what has changed since the checkpoint, as text.
    mixed: the record's entry, with these changes.
    same_path: the directories that have checkpoints of this path of parameters.
    """

    step: int
    seconds: float
    execution: dict[str, Any]
    same_path: Sequence[RunDirectory]
    mixed: Sequence[str]
    origin: RunDirectory | None = None
    parent: str | None = None
    changes: str = ""


def restore(located: LocatedRun, settings: Settings, device: torch.device, parts: Parts) -> Start:
    """Restore the parts and metrics.csv to where training continues. The run's record must have been begun."""
    directory, record = located.directory, located.record or Record()
    rows = settings.k * settings.trainer.batch_size
    pays = execution.pays(parts.last_step, rows)
    compiled = execution.wants_compiling(settings.compile, (parts.model, parts.objective), pays)
    is_long = settings.compile is True or (settings.compile == "auto" and pays)
    captured = device.type == "cuda" and is_long and not why_not(parts)
    is_told = settings.compile != "auto"
    begun = record.model_copy(update={"code": located.code, "mixed": list(located.inherited)})
    ours = same_path(directory, begun)
    found = latest_commit(ours, parts.last_step)
    if found is None or found.step == 0:
        outputs = directory.folder.parent
        records = stored(outputs) if settings.init_from is not None else []
        source = source_of(settings, outputs, records)
        if source is not None:
            training.carry_over(parts.model, parts.optimizer, end(source.directory).state)
        directory.take_metrics(directory, 0)
        now, _ = execution.settle(device, compiled, captured, None, is_told)
        return Start(0, 0.0, now, ours, located.inherited)
    now, changes = execution.settle(device, compiled, captured, found.state["execution"], is_told)
    assembled.restore(found.state, parts.stateful)
    origin = RunDirectory(found.path.parents[1])
    parent: str | None = origin.folder.name
    mixed = located.inherited
    if origin.folder == directory.folder:
        parent, mixed = record.parent, record.mixed
        changes = ", ".join(filter(None, (located.changes(), changes)))
    else:
        directory.drop_checkpoints((), 0)  # they are on the path of the code that began the record
    directory.take_metrics(origin, found.state["metrics_size"])
    marks = [f"from step {found.step}: {changes}"] if changes else []
    seconds = found.state["seconds"]
    return Start(found.step, seconds, now, ours, [*mixed, *marks], origin, parent, changes)
