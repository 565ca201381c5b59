"""Computes one run, from validated settings to its record.

A run's directory is outputs/<name>, named by its identity. A finished run is shown and not repeated. An interrupted
one continues from its last checkpoint. If another process computes the run now, this one waits for it.
"""

import contextlib
import errno
import json
import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from evidence import execution, project, tracking
from evidence.config import messages
from evidence.config.settings import Settings
from evidence.data import doubts, evenly_spaced, steps_per_pass
from evidence.display import terminal
from evidence.errors import UserError
from evidence.passwords import masked_values
from evidence.records import directory as directories
from evidence.records import files
from evidence.records.directory import RunDirectory, shown_folder
from evidence.records.record import Record, Sweep
from evidence.runs import fit, lookup, provenance, resume
from evidence.runs.build import build, evaluators, other_images, with_metrics
from evidence.runs.driver import Coroutine, Held, alone
from evidence.runs.lookup import LocatedRun
from evidence.runs.recorder import log, recording, try_delivery
from evidence.startup import without_garbage_collection
from evidence.tracking import housekeeping, mlflow_sync
from evidence.trial import interfaces

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO}  # what no user's code says of its own
SHOWN = {"run", "eval_samples", "eval_images", "device", "precision"}  # beside the metrics


def prepare(settings: Settings) -> None:
    """Prepare for the first job: close the runs of vanished processes, and make the store and the experiment.

    Raises: UserError where the store cannot be used.
    """
    store = _store(settings)
    if store is not None:
        tracking.prepare(store)
    housekeeping.close_vanished(project.root() / settings.paths.outputs, store)


def sync(settings: Settings) -> bool:
    """Deliver to MLflow the records that it lacks. Return whether none failed.

    Raises: UserError where the store cannot be used.
    """
    outputs, store = project.root() / settings.paths.outputs, _store(settings)
    if store is None:
        raise UserError(
            "sync: delivers to MLflow, which tracking=none leaves out; sync=all is for its records"
        )
    tracking.prepare(store)
    housekeeping.close_vanished(outputs, None)
    is_all_there = housekeeping.sync(outputs, store.uri, project.root(), everything=settings.sync == "all")
    housekeeping.close_vanished(outputs, store)
    return is_all_there


def run(settings: Settings, located: LocatedRun | None = None) -> float:
    """Compute a run by itself, and return valid/nll. See `coroutine`."""
    return alone(coroutine(settings, located))


def coroutine(
    settings: Settings,
    located: LocatedRun | None = None,
    job_number: int | None = None,
    progress: fit.ShowProgress = terminal.progress,
    sweep: Sweep | None = None,
) -> Coroutine[float]:
    """Compute a run, record it, show it, and return valid/nll (nats, lower is better), as a coroutine for runs.driver.

    `located` is the run's, where the caller has located it. `job_number` is that of a job in `sweep`. Such a job does
    not show a run that was finished before.
    Raises: UserError for what the user can correct.
    """
    execution.prepare(settings.precision)
    located = lookup.locate(settings, project.root()) if located is None else located
    directory, was_finished, store = located.directory, located.is_finished, _store(settings)
    if not was_finished:
        yield from _compute(settings, located, job_number, progress, sweep)
    else:
        _tag(directory, settings, sweep)
    if was_finished and store is not None:
        try_delivery(lambda: mlflow_sync.ensure_delivered(directory, store), directory)
    located = located.read_again()
    record = located.record
    assert record is not None  # the run has ended, now or before
    changes = located.changes()
    why = [f"was computed by other code ({changes})"] * bool(changes)
    if own := [mark for mark in record.mixed if mark not in located.inherited]:
        why.append(f"is mixed ({'; '.join(own)})")
    if why and (was_finished or changes):
        afresh = "rerun=true computes it afresh, in a record of its own"
        terminal.note(f"{record.run} {' and '.join(why)}: {afresh}")
    if job_number is None or not was_finished:
        place = {"folder": shown_folder(directory.folder, project.root())}  # it may have been moved
        terminal.result_table(record.metrics | record.model_dump(include=SHOWN) | place)
    return record.metrics["valid/nll"]


def _compute(
    settings: Settings,
    located: LocatedRun,
    job_number: int | None,
    progress: fit.ShowProgress,
    sweep: Sweep | None,
) -> Coroutine[None]:
    """Build, lock, resume, fit, score and finish. If another process computes the run, wait for it."""
    directory, store = located.directory, _store(settings)
    device = execution.choose_device(settings.device, job_number or 0)
    execution.check_precision(settings.precision, device)
    with without_garbage_collection():  # the optimizer imports torch.compile's half of torch
        # before anything is written: there may be no data
        parts = build(settings, device, project.root(), located.dataset)
    interfaces.check_kinds(parts.model, parts.objective)
    suited = evaluators(settings.eval, device).suited_to(parts.model, parts.dataset.test)
    evaluator = with_metrics(suited, settings.eval)
    images = evenly_spaced(parts.dataset.test, settings.eval.images)
    also = other_images(settings, project.root())
    for note in (*located.notes, *([] if settings.data.is_pinned else doubts(parts.dataset))):
        terminal.note(note)
    with _writing_to(settings):
        if job_number is None:  # a sweep has done it
            prepare(settings)
        with contextlib.ExitStack() as stack:
            yield from _lock(directory, stack)
            before = directory.read()  # another process may have come first
            _refuse_other_run(located, before)
            located = located._replace(record=before)
            if located.is_finished:
                return
            located.refuse_other_code(settings)
            found = directory.snapshot()
            _save_config(directory, settings)
            directories.begin(
                directory,
                **located.facts(),
                run=directory.folder.name,
                folder=shown_folder(directory.folder, project.root()),
                device=_device_name(device),
                precision=settings.precision,
                eval_samples=evaluator.num_samples,
                eval_images=len(images),
                steps=parts.last_step,
                passes=parts.last_step / steps_per_pass(parts.dataset, settings.trainer.batch_size),
                init_from=settings.init_from,
                mixed=before.mixed if before else [],
                data=provenance.described(parts.dataset),
                image_shape=list(parts.dataset.image_shape),
                data_digest=provenance.data(parts.dataset),
                provenance=provenance.provenance(),
                **_labels(settings, sweep, before),
            )
            with recording(directory, store, parts.stage_ends, found) as recorder:
                start = resume.restore(located.read_again(), settings, device, parts)
                directory.update(
                    code=located.code,
                    code_digest=provenance.code_digest(located.code),
                    mixed=start.mixed,
                    parent=start.parent,
                    execution=start.execution,
                )
                _note_start(directory, start, before, parts.last_step)
                form = (located.identity.form, provenance.code_digest(located.code))
                work = fit.Run(
                    settings, device, parts, images, also, evaluator, recorder, start, form, progress
                )
                metrics = yield from fit.fit(work)
                recorder.finish(metrics | fit.score(work))


def _labels(settings: Settings, sweep: Sweep | None, record: Record | None) -> dict[str, Any]:
    """The record's entries that no number depends on: the user's tags, those of before too, and the last sweep."""
    before = record or Record()
    given = {
        name: value if isinstance(value, str) else json.dumps(value) for name, value in settings.tags.items()
    }
    is_same = sweep is None or (before.sweep is not None and before.sweep.id == sweep.id)
    of = before.sweep if is_same else sweep  # the same sweep, typed again, began when it first did
    return {"tags": before.tags | masked_values(given), "sweep": None if of is None else of.model_dump()}


def _tag(directory: RunDirectory, settings: Settings, sweep: Sweep | None) -> None:
    """Give a finished run's record the tags and the sweep of this command."""
    if not settings.tags and sweep is None:
        return
    with directory.try_locked() as is_free:
        record = directory.read()
        if is_free and record is not None and record.status == "FINISHED":
            labels = _labels(settings, sweep, record)
            if labels != record.model_dump(include=set(labels)):
                with contextlib.suppress(OSError):  # a finished record may be read-only
                    directory.update(**labels)


@contextlib.contextmanager
def _writing_to(settings: Settings) -> Iterator[None]:
    """Turn an OSError of the outputs folder into a UserError that names paths.outputs. A user's own passes."""
    try:
        yield
    except OSError as error:
        if not _is_of(error, project.root() / settings.paths.outputs):
            raise
        reason = ": ".join(str(part) for part in (error.filename, error.strerror or error) if part)
        raise UserError(
            f"paths.outputs={settings.paths.outputs} cannot be used ({reason}): mend that, and the same"
            " command goes on, or choose another"
        ) from error


def _is_of(error: OSError, outputs: Path) -> bool:
    if error.filename is None:
        return error.errno in FULL or messages.own_location(error) is None
    return Path(os.fsdecode(error.filename)).resolve().is_relative_to(outputs.resolve())


def _refuse_other_run(located: LocatedRun, record: Record | None) -> None:
    if record is not None and record.run_identity and record.run_identity != located.identity.run:
        raise UserError(
            f"{located.directory.folder.name} has just become another run's folder: type the command again"
        )


def _lock(directory: RunDirectory, stack: contextlib.ExitStack) -> Generator[Held, bool, None]:
    """Lock the folder until the stack is left. While another process has it, the driver decides when to wait."""
    said, waits = "", False
    while True:
        try:
            stack.enter_context(directory.locked(waits))
            return
        except directories.Locked as held:
            if str(held) != said:
                said = str(held)
                terminal.note(f"{said}: waiting")
            waits = yield Held()


def _note_start(directory: RunDirectory, start: resume.Start, before: Record | None, last_step: int) -> None:
    """Say where training continues, if it does not start at its beginning."""
    said = ""
    if before is not None:
        said = f"was {before.status}{f' ({before.error})' if before.error else ''}; "
    if start.origin is not None:
        whose = "" if start.origin.folder == directory.folder else f" of {start.parent}"
        if start.step < last_step:
            said += f"goes on from step {start.step}{whose} to {last_step}"
        else:
            said += f"evaluates the model{whose} at step {last_step}, and trains no more"
    elif before is not None:
        said += "starts again"
    if start.changes:
        said += f", otherwise than it began ({start.changes}): it is marked as mixed"
    if said:
        log.info("%s", said)
        terminal.note(f"{directory.folder.name} {said}")


def _save_config(directory: RunDirectory, settings: Settings) -> None:
    """Write config.yaml, without the passwords that addresses may have."""
    files.write(
        directory.config, OmegaConf.to_yaml(masked_values(settings.model_dump(by_alias=True))).encode()
    )


def _store(settings: Settings) -> tracking.Store | None:
    if settings.tracking.name == "none":
        return None
    return tracking.Store(settings.tracking.uri, settings.name, project.root())


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
