"""Where a run stands before it computes: which record is its own, and whose checkpoint it goes on from.

A run's records are outputs/<name> and, where other code computed that one, outputs/<name>-2, -3 and so on.
Training starts from the furthest checkpoint of its own record or of any that the same code took along the same
path of parameters. Where there is none, it starts from the end of the run that `init_from` names, or from the seed.
"""

import re
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from evidence import execution, training
from evidence import parts as assembled
from evidence.config import messages
from evidence.config.settings import Settings, validate
from evidence.data import Dataset
from evidence.errors import UserError
from evidence.parts import Parts
from evidence.records.checkpoints import Checkpoint
from evidence.records.directory import RunDirectory, Stored, latest_checkpoint, stored
from evidence.records.identity import VERSION, Identity, agree, compared, identify
from evidence.records.record import Record
from evidence.runs import provenance
from evidence.runs.build import build_dataset

SAME_PATH = (
    "train_identity",
    "code",
    "data_digest",
    "mixed",
)  # what records on one path of parameters agree in


class Place(NamedTuple):
    """A run's identity, the code that would compute it now, and the record that it has or would begin.

    record: what stands in the directory, None where nothing does. content: a hash by key of all that no checksum
    pins. dataset: of the user's own data, which had to be read. inherited: the marks of the run that `init_from`
    names, where it is mixed. notes: on records of the same settings that are not this run's.
    """

    identity: Identity
    code: dict[str, str]
    directory: RunDirectory
    record: Record | None
    content: dict[str, str]
    dataset: Dataset | None
    inherited: Sequence[str] = ()
    notes: Sequence[str] = ()

    @property
    def is_finished(self) -> bool:
        """Whether there is nothing left to compute."""
        return self.record is not None and self.record.status == "FINISHED"

    def read_again(self) -> "Place":
        """With the record as it is now."""
        return self._replace(record=self.directory.read())

    def changes(self) -> str:
        """In words, what has changed since the code that computed the record; empty if nothing has."""
        return "" if self.record is None else provenance.difference(self.record.code, self.code)

    def facts(self) -> dict[str, Any]:
        """What result.json keeps of the run's identity."""
        return {
            "identity_version": VERSION,
            "train_identity": self.identity.train,
            "run_identity": self.identity.run,
            "cell_identity": self.identity.cell,
            "train_cell": self.identity.train_cell,
            "settings_identity": self.identity.settings,
            "content": self.content,
        }

    def refuse_other_code(self, settings: Settings) -> None:
        """Raise UserError where other code has begun the run, and nobody has said to go on with it."""
        if self.is_finished or settings.other_code or not any(self.directory.checkpoints()):
            return
        if changes := self.changes():
            raise UserError(
                f"{self.directory.folder.name} was begun by other code ({changes}): other_code=true goes on with it"
                " all the same, rerun=true computes it afresh in a record of its own"
            )


class Start(NamedTuple):
    """Where training goes on: the step, the seconds spent so far, and how it computes.

    `origin` is the directory of the checkpoint (None: training begins), `parent` the name of that run if it is
    another. `changes` says what is no longer as it was there; `mixed` is the record's entry, these changes included.
    `same_path` are the directories that hold checkpoints of this path of parameters.
    """

    step: int
    seconds: float
    execution: dict[str, Any]
    same_path: Sequence[RunDirectory]
    mixed: Sequence[str]
    origin: RunDirectory | None = None
    parent: str | None = None
    changes: str = ""


def locate(
    settings: Settings,
    root: Path,
    datasets: MutableMapping[str, Dataset] | None = None,
    records: Sequence[Stored] | None = None,
) -> Place:
    """The place of the run that the settings describe.

    For many runs in a row, `datasets` keeps the user's own data from call to call, and `records` are those of
    directory.stored. Raises: UserError where `init_from` names no finished run of this model, other code has begun
    the run, or the user's own data cannot be read.
    """
    config = settings.model_dump(by_alias=True)
    outputs = root / settings.paths.outputs
    records = stored(outputs) if records is None else records
    content, dataset = provenance.content(config), None
    if not settings.data.is_pinned:
        dataset = _own_dataset(settings, root, {} if datasets is None else datasets)
        content["data"] = provenance.data(dataset)
    source = _source(settings, outputs, records)
    identity = identify(config, content, None if source is None else source.record.model_dump())
    code = provenance.code(config)
    same_name = _of_name(records, identity.name)
    same_run = [each for each in same_name if each.record.run_identity == identity.run]
    ours = [each for each in same_run if each.record.code == code]
    inherited = [f"init_from {settings.init_from}: {mark}" for mark in source.record.mixed] if source else []
    fresh = Place(identity, code, _free(outputs, identity.name, same_name), None, content, dataset, inherited)
    if not same_run:
        return fresh._replace(notes=list(_notes(fresh, config, records)))
    if settings.rerun and not ours:
        return fresh
    directory, record = (ours or same_run)[-1]
    place = fresh._replace(directory=directory, record=record)
    if not ours:
        place.refuse_other_code(settings)
    return place


def restore(place: Place, settings: Settings, device: torch.device, parts: Parts) -> Start:
    """Put the parts where training goes on, and metrics.csv with them; the place's record has been begun."""
    directory, record = place.directory, place.record or Record()
    rows = settings.k * settings.trainer.batch_size
    pays = execution.pays(parts.last_step, rows)
    compiled = execution.wants_compiling(settings.compile, (parts.model, parts.objective), device, pays)
    same_path = _same_path_as(place, record.data_digest)
    found = latest_checkpoint(same_path, parts.last_step)
    if found is None or found.step == 0:
        outputs = directory.folder.parent
        source = _source(settings, outputs, stored(outputs))
        if source is not None:
            training.carry_over(parts.model, parts.optimizer, end(source.directory).state)
        directory.take_metrics(directory, 0)
        return Start(0, 0.0, execution.settle(device, compiled, None)[0], same_path, place.inherited)
    now, changes = execution.settle(device, compiled, found.state["execution"])
    assembled.restore(found.state, parts.stateful)
    origin = RunDirectory(found.path.parents[1])
    parent: str | None = origin.folder.name
    mixed = place.inherited
    if origin.folder == directory.folder:
        parent, mixed = record.parent, record.mixed
        changes = ", ".join(filter(None, (place.changes(), changes)))
    else:
        directory.drop_checkpoints((), 0)  # they lie on the path of whatever code began the record
    directory.take_metrics(origin, found.state["metrics_size"])
    marks = [f"from step {found.step}: {changes}"] if changes else []
    seconds = found.state["seconds"]
    return Start(found.step, seconds, now, same_path, [*mixed, *marks], origin, parent, changes)


def end(directory: RunDirectory) -> Checkpoint:
    """The checkpoint that a finished run ended with; one that was only evaluated has it from another of its path.

    Raises: UserError where there is none, or a damaged one.
    """
    record = directory.read() or Record()
    found = latest_checkpoint(same_path(directory, record), record.steps)
    if found is None or found.step != record.steps:
        raise UserError(f"{directory.folder.name}: its last checkpoint is missing or damaged")
    return found


def same_path(directory: RunDirectory, record: Record) -> list[RunDirectory]:
    """The directory of a run, and those that the same code took along the same path, however far."""
    return _agreeing(directory, record.model_dump(include=set(SAME_PATH)))


def _same_path_as(place: Place, data_digest: str) -> list[RunDirectory]:
    """The run's own directory, and those that the same code took along the same path of parameters, however far."""
    known = {
        "train_identity": place.identity.train,
        "code": place.code,
        "data_digest": data_digest,
        "mixed": list(place.inherited),
    }
    return _agreeing(place.directory, known)


def _own_dataset(settings: Settings, root: Path, datasets: MutableMapping[str, Dataset]) -> Dataset:
    key = repr(settings.data)
    if key not in datasets:
        datasets[key] = build_dataset(settings, root)
    return datasets[key]


def _of_name(records: Sequence[Stored], name: str) -> list[Stored]:
    """The records in folders <name>, <name>-2, -3 and so on, in this order. Two runs may share a name."""
    numbered = {}
    for each in records:
        if match := re.fullmatch(rf"{re.escape(name)}(?:-(\d+))?", each.directory.folder.name):
            numbered[int(match[1] or 1)] = each
    return [numbered[number] for number in sorted(numbered)]


def _free(outputs: Path, name: str, taken: Sequence[Stored]) -> RunDirectory:
    """The directory of the next record of this name."""
    names = {each.directory.folder.name for each in taken}
    number, free = 1, name
    while free in names:
        number += 1
        free = f"{name}-{number}"
    return RunDirectory(outputs / free)


def _notes(place: Place, config: Mapping[str, Any], records: Sequence[Stored]) -> Iterator[str]:
    """A line for each record that was made with these settings and is of another run all the same."""
    stem = place.identity.name.rpartition("-")[0]
    for directory, record in records:
        name = directory.folder.name
        if not name.startswith(f"{stem}-"):
            continue
        if record.identity_version != VERSION:
            if directory.config.exists() and agree(compared(config), compared(directory.settings)):
                yield f"{directory.folder} was made by an earlier version of evidence: it is not used"
        elif record.settings_identity == place.identity.settings:
            keys = sorted({*record.content, *place.content})
            changed = [key for key in keys if record.content.get(key) != place.content.get(key)]
            what = ", ".join(changed) or "the run that init_from names"
            yield f"{name} was computed from other content ({what} has changed since): this is another run"


def _source(settings: Settings, outputs: Path, records: Sequence[Stored]) -> Stored | None:
    """The finished run that `init_from` names."""
    name = settings.init_from
    if name is None:
        return None
    folders = {Path(base, name).resolve().parent for base in (outputs.parent, Path.cwd(), outputs)}
    if outputs.resolve() not in folders:
        raise UserError(
            f"init_from={name}: lies outside of {outputs}: name a run there, or choose its paths.outputs"
        )
    finished = {each.directory.folder.name: each for each in records if each.record.status == "FINISHED"}
    source = finished.get(Path(name).name)
    if source is None:
        match = messages.nearest(name, [*finished])
        hint = f": did you mean '{match}'?" if match else ""
        raise UserError(f"init_from={name}: no finished run of that name in {outputs}{hint}")
    if source.record.identity_version != VERSION:
        raise UserError(
            f"init_from={name}: {source.directory.folder} was made by an earlier version of evidence, whose records do"
            " not say enough of themselves: train it again"
        )
    theirs = validate(source.directory.settings)
    if settings.model != theirs.model:
        model = messages.shown(source.directory.settings["model"])
        raise UserError(f"init_from={name}: choose its model, {model}")
    optimizer = theirs.trainer.optimizer.built_by
    if settings.trainer.optimizer.built_by != optimizer:
        raise UserError(f"init_from={name}: choose its optimizer, trainer.optimizer._target_={optimizer}")
    return source


def _agreeing(directory: RunDirectory, known: Mapping[str, Any]) -> list[RunDirectory]:
    """The directory, and those beside it whose records agree with what is known."""
    others = (each for each in stored(directory.folder.parent) if each.directory.folder != directory.folder)
    return [
        directory,
        *(other for other, record in others if all(getattr(record, key) == known[key] for key in known)),
    ]
