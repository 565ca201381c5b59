"""Where a run stands before it computes: which record is its own, and whose checkpoint it goes on from.

A run's records are outputs/<name> and, where other code computed that one, outputs/<name>-2, -3 and so on.
Training starts from the furthest checkpoint of its own record or of any that the same code took along the same
path of parameters; where there is none, from the end of the run that `init_from` names, or from the seed.
"""

import glob
import re
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from evidence import training
from evidence.config import messages
from evidence.config.settings import Settings, validate
from evidence.data import Dataset
from evidence.errors import UserError
from evidence.records import checkpoints
from evidence.records.directory import RunDirectory, directories, latest_checkpoint
from evidence.records.identity import VERSION, Identity, agree, compared, identify
from evidence.runs import provenance, runtime
from evidence.runs.build import Parts, build_dataset

SAME_PATH = (
    "train_identity",
    "code",
    "data_digest",
    "mixed",
)  # what two records on one path of parameters agree in


class Place(NamedTuple):
    """A run's identity, the code that would compute it now, and the record that it has or would begin.

    content: a hash by key of all that no checksum pins. dataset: of the user's own data, which had to be read.
    inherited: the marks of the run that `init_from` names, where it is mixed. notes: records that the same words once
    stood for, and that are not this run's.
    """

    identity: Identity
    code: dict[str, str]
    directory: RunDirectory
    content: dict[str, str]
    dataset: Dataset | None
    inherited: Sequence[str] = ()
    notes: Sequence[str] = ()

    @property
    def is_finished(self) -> bool:
        """Whether there is nothing left to compute."""
        return self.directory.result.get("status") == "FINISHED"

    def changes(self) -> str:
        """In words, what has changed since the code that computed the record; empty if nothing has."""
        result = self.directory.result
        return provenance.difference(result.get("code", {}), self.code) if result else ""

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

    `origin` is whose checkpoint that is (None: no one's, training begins), `parent` that run's name if it is another,
    `changes` says what is no longer as it was there, and `mixed` what had changed before.
    """

    step: int
    seconds: float
    execution: dict[str, Any]
    origin: RunDirectory | None = None
    parent: str | None = None
    changes: str = ""
    mixed: Sequence[str] = ()


def locate(settings: Settings, root: Path, datasets: MutableMapping[str, Dataset] | None = None) -> Place:
    """The place of the run that the settings describe; `datasets` keeps the user's own data from call to call.

    Raises: UserError where `init_from` names no finished run of this model, other code has begun the run, or the
    user's own data cannot be read.
    """
    config = settings.model_dump(by_alias=True)
    outputs = root / settings.paths.outputs
    content, dataset = provenance.content(config), None
    if not settings.data.is_pinned:
        dataset = _own_dataset(settings, root, {} if datasets is None else datasets)
        content["data"] = provenance.data(dataset)
    source = _source(settings, outputs)
    identity = identify(config, content, None if source is None else source.result)
    code = provenance.code(config)
    same_name = _of_name(outputs, identity.name)
    records = [directory for directory in same_name if directory.result.get("run_identity") == identity.run]
    ours = [directory for directory in records if directory.result.get("code") == code]
    fresh = RunDirectory(_free(outputs, identity.name, same_name))
    marks = [] if source is None else source.result["mixed"]
    inherited = [f"init_from {config['init_from']}: {mark}" for mark in marks]
    place = Place(identity, code, (ours or records or [fresh])[-1], content, dataset, inherited)
    if ours:
        return place
    if not records:
        return place._replace(notes=list(_notes(place, config, outputs)))
    if settings.rerun:
        return place._replace(directory=fresh)
    place.refuse_other_code(settings)
    return place


def same_path_as(place: Place, data_digest: str) -> list[RunDirectory]:
    """The run's own home, and those that the same code took along the same path of parameters, however far."""
    known = {
        "train_identity": place.identity.train,
        "code": place.code,
        "data_digest": data_digest,
        "mixed": list(place.inherited),
    }
    return _agreeing(place.directory, known)


def restore(
    place: Place, directories: list[RunDirectory], settings: Settings, device: torch.device, parts: Parts
) -> Start:
    """Put the parts where training goes on, and metrics.csv with them."""
    directory, last_step = place.directory, parts.schedule[-1].last_step
    rows = settings.k * settings.trainer.batch_size
    modules, pays = (parts.model, parts.objective), runtime.pays(last_step, rows)
    compiled = runtime.wants_compiling(settings.compile, modules, device, pays)
    found = latest_checkpoint(directories, last_step)
    if found is None or found[1]["step"] == 0:
        source = _source(settings, directory.folder.parent)
        if source is not None:
            training.carry_over(parts.model, parts.optimizer, end(source))
        directory.take_metrics(directory, 0)
        return Start(0, 0.0, runtime.settle(device, compiled, None)[0], mixed=place.inherited)
    origin, state = found
    now, changes = runtime.settle(device, compiled, state["execution"])
    checkpoints.restore(state, parts.stateful, device)
    if origin is not directory:
        directory.drop_checkpoints((), 0)  # they lie on the path of whatever code began the record
    directory.take_metrics(origin, state["metrics_size"])
    start = Start(state["step"], state["seconds"], now, origin, mixed=place.inherited)
    if origin is not directory:
        return start._replace(parent=origin.folder.name, changes=changes)
    result = directory.result
    changes = ", ".join(filter(None, (place.changes(), changes)))
    return start._replace(parent=result.get("parent"), changes=changes, mixed=result["mixed"])


def end(directory: RunDirectory) -> dict[str, Any]:
    """The checkpoint that a finished run ended with; one that was only evaluated has it from its kin.

    Raises: UserError where there is none, or a damaged one.
    """
    steps = directory.result["steps"]
    found = latest_checkpoint(same_path(directory), steps)
    if found is None or found[1]["step"] != steps:
        raise UserError(f"{directory.folder.name}: its last checkpoint is missing or damaged")
    return found[1]


def same_path(directory: RunDirectory) -> list[RunDirectory]:
    """The home of a finished run, and those that the same code took along the same path, however far."""
    result = directory.result
    return _agreeing(directory, {key: result[key] for key in SAME_PATH})


def _own_dataset(settings: Settings, root: Path, datasets: MutableMapping[str, Dataset]) -> Dataset:
    key = repr(settings.data)
    if key not in datasets:
        datasets[key] = build_dataset(settings, root)
    return datasets[key]


def _of_name(outputs: Path, name: str) -> list[RunDirectory]:
    """The records in folders <name>, <name>-2, -3 and so on, in this order. Two runs may share a name."""
    numbered = {}
    for path in outputs.glob(f"{glob.escape(name)}*/result.json"):
        if match := re.fullmatch(rf"{re.escape(name)}(?:-(\d+))?", path.parent.name):
            numbered[int(match[1] or 1)] = RunDirectory(path.parent)
    return [numbered[number] for number in sorted(numbered)]


def _free(outputs: Path, name: str, taken: Sequence[RunDirectory]) -> Path:
    """The folder of the next record of this name."""
    names = {directory.folder.name for directory in taken}
    number, free = 1, name
    while free in names:
        number += 1
        free = f"{name}-{number}"
    return outputs / free


def _notes(place: Place, config: Mapping[str, Any], outputs: Path) -> Iterator[str]:
    """A line for each record that was made with these settings and is of another run all the same."""
    stem = place.identity.name.rpartition("-")[0]
    for directory in directories(outputs):
        name, result = directory.folder.name, directory.result
        if not name.startswith(f"{stem}-"):
            continue
        if result.get("identity_version") != VERSION:
            if directory.config.exists() and agree(compared(config), compared(directory.settings)):
                yield f"{directory.folder} was made by an earlier version of evidence: it is not used"
        elif result["settings_identity"] == place.identity.settings:
            theirs = result["content"]
            changed = [
                key for key in sorted({*theirs, *place.content}) if theirs.get(key) != place.content.get(key)
            ]
            what = ", ".join(changed) or "the run that init_from names"
            yield f"{name} was computed from other content ({what} has changed since): this is another run"


def _source(settings: Settings, outputs: Path) -> RunDirectory | None:
    """The home of the run that `init_from` names."""
    name = settings.init_from
    if name is None:
        return None
    source = RunDirectory(outputs / Path(name).name)
    folders = {Path(base, name).resolve().parent for base in (outputs.parent, Path.cwd(), outputs)}
    if outputs.resolve() not in folders:
        raise UserError(
            f"init_from={name}: lies outside of {outputs}: name a run there, or choose its paths.outputs"
        )
    if source.result.get("status") != "FINISHED":
        finished = [
            directory.folder.name
            for directory in directories(outputs)
            if directory.result["status"] == "FINISHED"
        ]
        match = messages.nearest(name, finished)
        hint = f": did you mean '{match}'?" if match else ""
        raise UserError(f"init_from={name}: no finished run of that name in {outputs}{hint}")
    if source.result.get("identity_version") != VERSION:
        raise UserError(
            f"init_from={name}: {source.folder} was made by an earlier version of evidence, whose records do not say"
            " enough of themselves: train it again"
        )
    theirs = validate(source.settings)
    if settings.model != theirs.model:
        raise UserError(f"init_from={name}: choose its model, {messages.shown(source.settings['model'])}")
    optimizer = theirs.trainer.optimizer.built_by
    if settings.trainer.optimizer.built_by != optimizer:
        raise UserError(f"init_from={name}: choose its optimizer, trainer.optimizer._target_={optimizer}")
    return source


def _agreeing(directory: RunDirectory, known: dict[str, Any]) -> list[RunDirectory]:
    """The home, and those beside it whose records agree with what is known."""
    others = (other for other in directories(directory.folder.parent) if other.folder != directory.folder)
    return [directory, *(other for other in others if known == {key: other.result.get(key) for key in known})]
