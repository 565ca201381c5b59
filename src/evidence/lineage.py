"""Where a run stands before it computes: which record is its own, and whose checkpoint it goes on from.

A run's records are outputs/<name> and, where other code computed that one, outputs/<name>-2, -3 and so on.
Training starts from the furthest checkpoint of its own record or of any that the same code took along the same
path of parameters; where there is none, from the end of the run that `init_from` names, or from the seed.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from evidence import checkpoints, complaints, execution, fingerprint, training
from evidence.building import Parts
from evidence.errors import UserError
from evidence.identity import Identity, identify
from evidence.record import Home, homes, latest_checkpoint


class Place(NamedTuple):
    """A run's identity, the code that would compute it now, and the record that it has or would begin."""

    identity: Identity
    code: dict[str, str]
    home: Home

    @property
    def is_finished(self) -> bool:
        """Whether there is nothing left to compute."""
        return self.home.result.get("status") == "FINISHED"

    def changes(self) -> str:
        """In words, what has changed since the code that computed the record; empty if nothing has."""
        result = self.home.result
        return fingerprint.difference(result.get("code", {}), self.code) if result else ""


class Start(NamedTuple):
    """Where training goes on: the step, the seconds spent so far, and how it computes.

    `origin` is whose checkpoint that is (None: no one's, training begins), `parent` that run's name if it is another,
    `changes` says what is no longer as it was there, and `mixed` what had changed before.
    """

    step: int
    seconds: float
    execution: dict[str, Any]
    origin: Home | None = None
    parent: str | None = None
    changes: str = ""
    mixed: Sequence[str] = ()


def locate(config: dict[str, Any], root: Path) -> Place:
    """The place of the run that a resolved config describes.

    Raises: UserError where `init_from` names no finished run of this model, or other code has begun the run.
    """
    outputs = root / config["paths"]["outputs"]
    source = _source(config, outputs)
    start = None if source is None else (source.result["train_identity"], source.result["steps"])
    identity, code = identify(config, start), fingerprint.code(config)
    records = _records(outputs, identity.name)
    ours = [home for home in records if home.result.get("code") == code]
    if ours:
        return Place(identity, code, ours[-1])
    if not records:
        return Place(identity, code, Home(outputs / identity.name))
    place = Place(identity, code, records[-1])
    if config["rerun"]:
        return place._replace(home=Home(outputs / f"{identity.name}-{len(records) + 1}"))
    if place.is_finished or config["other_code"] or not any(place.home.checkpoints()):
        return place
    raise UserError(
        f"{place.home.folder.name} was begun by other code ({place.changes()}): other_code=true goes on with it"
        " all the same, rerun=true computes it afresh in a record of its own"
    )


def family(place: Place, data_digest: str) -> list[Home]:
    """The run's own home, and those that the same code took along the same path of parameters, however far."""
    facts = {
        "train_identity": place.identity.train,
        "code": place.code,
        "data_digest": data_digest,
        "mixed": [],
    }
    return _kin(place.home, facts)


def take_up(
    place: Place, homes: list[Home], config: dict[str, Any], device: torch.device, parts: Parts
) -> Start:
    """Put the parts where training goes on, and metrics.csv with them."""
    home, last_step = place.home, parts.schedule[-1].last_step
    rows = config["k"] * config["trainer"]["batch_size"]
    modules, pays = (parts.model, parts.objective), execution.pays(last_step, rows)
    compiled = execution.wants_compiling(config["compile"], modules, device, pays)
    found = latest_checkpoint(homes, last_step)
    if found is None or found[1]["step"] == 0:
        source = _source(config, home.folder.parent)
        if source is not None:
            training.carry_over(parts.model, parts.optimizer, end(source))
        home.take_metrics(home, 0)
        return Start(0, 0.0, execution.settle(device, compiled, None)[0])
    origin, state = found
    now, changes = execution.settle(device, compiled, state["execution"])
    checkpoints.restore(state, parts.stateful, device)
    home.take_metrics(origin, state["metrics_size"])
    start = Start(state["step"], state["seconds"], now, origin)
    if origin is not home:
        return start._replace(parent=origin.folder.name, changes=changes)
    result = home.result
    changes = ", ".join(filter(None, (place.changes(), changes)))
    return start._replace(parent=result.get("parent"), changes=changes, mixed=result["mixed"])


def end(home: Home) -> dict[str, Any]:
    """The checkpoint that a finished run ended with; one that was only evaluated has it from its kin.

    Raises: UserError where there is none, or a damaged one.
    """
    steps = home.result["steps"]
    found = latest_checkpoint(kin(home), steps)
    if found is None or found[1]["step"] != steps:
        raise UserError(f"{home.folder.name}: its last checkpoint is missing or damaged")
    return found[1]


def kin(home: Home) -> list[Home]:
    """The home of a finished run, and those that the same code took along the same path, however far."""
    result = home.result
    return _kin(home, {key: result[key] for key in ("train_identity", "code", "data_digest", "mixed")})


def _records(outputs: Path, name: str) -> list[Home]:
    """The records of one run, the oldest first."""
    found = [Home(outputs / name)]
    while found[-1].result:
        found.append(Home(outputs / f"{name}-{len(found) + 1}"))
    return found[:-1]


def _source(config: dict[str, Any], outputs: Path) -> Home | None:
    """The home of the run that `init_from` names."""
    name = config["init_from"]
    if name is None:
        return None
    source = Home(outputs / Path(name).name)
    if source.result.get("status") != "FINISHED":
        finished = [home.folder.name for home in homes(outputs) if home.result["status"] == "FINISHED"]
        match = complaints.nearest(name, finished)
        hint = f": did you mean '{match}'?" if match else ""
        raise UserError(f"init_from={name}: no finished run of that name in {outputs}{hint}")
    theirs = source.settings
    if config["model"] != theirs["model"]:
        raise UserError(f"init_from={name}: choose its model, {complaints.shown(theirs['model'])}")
    optimizer = theirs["trainer"]["optimizer"]["_target_"]
    if config["trainer"]["optimizer"]["_target_"] != optimizer:
        raise UserError(f"init_from={name}: choose its optimizer, trainer.optimizer._target_={optimizer}")
    return source


def _kin(home: Home, facts: dict[str, Any]) -> list[Home]:
    """The home, and those beside it whose records agree with the facts."""
    others = (other for other in homes(home.folder.parent) if other.folder != home.folder)
    return [home, *(other for other in others if facts == {key: other.result.get(key) for key in facts})]
