"""Finds the record of a run: the one that the run has, or the one that it would begin.

The records of a run are outputs/<name> and, where other code computed that one, outputs/<name>-2, -3 and so on.
"""

import re
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from evidence.config import messages
from evidence.config.settings import Settings, validate
from evidence.data import Dataset
from evidence.errors import UserError
from evidence.records.damage import Damaged, left_out
from evidence.records.directory import RunDirectory, Stored, stored
from evidence.records.identity import VERSION, Identity, agree, compared, identify
from evidence.records.record import Record
from evidence.runs import provenance
from evidence.runs.build import build_dataset


class LocatedRun(NamedTuple):
    """A run's identity, the code that would compute it now, and the record that it has or would begin.

    record: the directory's record, None where there is none.
    content: a hash by key of all that no checksum pins.
    dataset: the user's own data, which had to be read.
    inherited: the marks of the run that `init_from` names, where that run is mixed.
    notes: lines on records of the same settings that are not this run's.
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
        """Whether nothing is left to compute."""
        return self.record is not None and self.record.status == "FINISHED"

    def read_again(self) -> "LocatedRun":
        """The same with the record as it is now."""
        return self._replace(record=self.directory.read())

    def changes(self) -> str:
        """What has changed since the code that computed the record, as text. Empty if nothing has."""
        return "" if self.record is None else provenance.difference(self.record.code, self.code)

    def facts(self) -> dict[str, Any]:
        """The entries of result.json on the run's identity."""
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
        """Raise UserError where other code has begun the run, and other_code=true is not set."""
        if self.is_finished or settings.other_code or not any(self.directory.checkpoints()):
            return
        if changes := self.changes():
            raise UserError(
                f"{self.directory.folder.name} was begun by other code ({changes}): other_code=true goes on with it"
                " all the same, rerun=true computes it afresh in a record of its own"
            )


def locate(
    settings: Settings,
    root: Path,
    datasets: MutableMapping[str, Dataset] | None = None,
    records: Sequence[Stored] | None = None,
) -> LocatedRun:
    """Find the run that the settings describe: its record, or the one that it would begin.

    For many runs, `datasets` keeps the user's own data from call to call, and `records` are those of
    directory.stored.
    Raises: UserError where `init_from` names no finished run of this model, other code has begun the run, or the
    user's own data cannot be read.
    """
    config = settings.model_dump(by_alias=True)
    outputs = root / settings.paths.outputs
    records = stored(outputs) if records is None else records
    content, dataset = provenance.content(config), None
    if not settings.data.is_pinned:
        dataset = _own_dataset(settings, root, {} if datasets is None else datasets)
        content["data"] = provenance.data(dataset)
    source = source_of(settings, outputs, records)
    identity = identify(config, content, None if source is None else source.record.model_dump())
    code = provenance.code(config)
    same_name = _of_name(records, identity.name)
    same_run = [each for each in same_name if each.record.run_identity == identity.run]
    ours = [each for each in same_run if each.record.code == code]
    inherited = [f"init_from {settings.init_from}: {mark}" for mark in source.record.mixed] if source else []
    if settings.rerun:  # a mixed record is no answer
        ours = [each for each in ours if each.record.mixed == inherited]
    fresh = LocatedRun(
        identity, code, _free(outputs, identity.name, same_name), None, content, dataset, inherited
    )
    if not same_run:
        return fresh._replace(notes=list(_notes(fresh, config, records)))
    if settings.rerun and not ours:
        return fresh
    directory, record = (ours or same_run)[-1]
    located = fresh._replace(directory=directory, record=record)
    if not ours:
        located.refuse_other_code(settings)
    return located


def _own_dataset(settings: Settings, root: Path, datasets: MutableMapping[str, Dataset]) -> Dataset:
    key = repr(settings.data)
    if key not in datasets:
        datasets[key] = build_dataset(settings, root)
    return datasets[key]


def _of_name(records: Sequence[Stored], name: str) -> list[Stored]:
    """The records in folders <name>, <name>-2, -3 and so on, in this order. Two runs may have one name."""
    numbered = {}
    for each in records:
        if match := re.fullmatch(rf"{re.escape(name)}(?:-(\d+))?", each.directory.folder.name):
            numbered[int(match[1] or 1)] = each
    return [numbered[number] for number in sorted(numbered)]


def _free(outputs: Path, name: str, taken: Sequence[Stored]) -> RunDirectory:
    """The directory of the next record of this name. `taken` are the records of this name.

    A folder whose record is damaged is not free: its checkpoints may still be wanted.
    """
    names = {each.directory.folder.name for each in taken}
    number, free = 1, name
    while free in names or _is_damaged(RunDirectory(outputs / free)):
        number += 1
        free = f"{name}-{number}"
    return RunDirectory(outputs / free)


def _is_damaged(directory: RunDirectory) -> bool:
    try:
        if directory.folder.exists():
            directory.read()
    except Damaged:
        return True
    return False


def _notes(located: LocatedRun, config: Mapping[str, Any], records: Sequence[Stored]) -> Iterator[str]:
    """Yield a line for each record with these settings that is of another run."""
    stem = located.identity.name.rpartition("-")[0]
    for directory, record in records:
        name = directory.folder.name
        if not name.startswith(f"{stem}-"):
            continue
        if record.identity_version != VERSION:
            if _agrees(config, directory):
                yield f"{directory.folder} was made by an earlier version of evidence: it is not used"
        elif record.settings_identity == located.identity.settings:
            keys = sorted({*record.content, *located.content})
            changed = [key for key in keys if record.content.get(key) != located.content.get(key)]
            what = ", ".join(changed) or "the run that init_from names"
            yield f"{name} was computed from other content ({what} has changed since): this is another run"


def _agrees(config: Mapping[str, Any], directory: RunDirectory) -> bool:
    with left_out(directory.folder):
        return agree(compared(config), compared(directory.settings))
    return False


def source_of(settings: Settings, outputs: Path, records: Sequence[Stored]) -> Stored | None:
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
    config = source.directory.settings_of(source.record)
    try:
        theirs = validate(config)
    except UserError as error:
        raise UserError(f"init_from={name}: {source.directory.config}: {error}") from None
    if settings.model != theirs.model:
        model = messages.shown(config["model"])
        raise UserError(f"init_from={name}: choose its model, {model}")
    optimizer = theirs.trainer.optimizer.built_by
    if settings.trainer.optimizer.built_by != optimizer:
        raise UserError(f"init_from={name}: choose its optimizer, trainer.optimizer._target_={optimizer}")
    return source
