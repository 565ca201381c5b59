"""One run, from validated settings to its record.

A run's home is outputs/<name>, named by its identity. A run that is finished is shown and not repeated; one that
was broken off goes on from its last checkpoint, after waiting for whoever computes it now.
"""

import contextlib
import logging
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from evidence import tracking
from evidence.config.settings import Settings
from evidence.data import evenly_spaced
from evidence.display import terminal
from evidence.errors import UserError
from evidence.records import directory as record
from evidence.records import files
from evidence.records.directory import RunDirectory
from evidence.runs import fit, provenance, resume, runtime
from evidence.runs.build import Parts, build
from evidence.runs.build import plan as scoring_plan
from evidence.runs.resume import Place
from evidence.startup import without_garbage_collection
from evidence.tracking import mlflow_sync
from evidence.tracking.mlflow_sync import MLflowSync

ROOT = Path(__file__).resolve().parents[3]  # where run.py lies: relative paths and MLflow's store start here
SHOWN = ("run", "folder", "eval_samples", "eval_images", "device")  # beside the metrics

log = logging.getLogger("evidence")


def prepare(settings: Settings) -> None:
    """Before the first job: close what vanished processes have left RUNNING, and make the store and the experiment.

    Raises: UserError where the store cannot be used.
    """
    store = _store(settings)
    if store is not None:
        tracking.prepare(store)
    mlflow_sync.close_vanished(ROOT / settings.paths.outputs, store)


def sync(settings: Settings) -> None:
    """Deliver to MLflow the records that it lacks; raises UserError where the store cannot be used."""
    outputs = ROOT / settings.paths.outputs
    mlflow_sync.close_vanished(outputs, None)
    mlflow_sync.sync(outputs, settings.tracking.uri, ROOT)
    prepare(settings)


def run(settings: Settings, place: Place | None = None, job_number: int | None = None) -> float:
    """Train and evaluate as `settings` say, record it, show it, and return valid/nll (nats, lower is better).

    `place` is the run's, where the caller has located it. `job_number` is that of a job in a sweep, which does not
    show what it finds finished. Raises: UserError for what the user can mend.
    """
    torch.set_flush_denormal(True)  # before any other tensor operation, so that worker threads inherit it
    torch.set_default_dtype(torch.float32)  # a user's module of a job before may have changed it
    place = resume.locate(settings, ROOT) if place is None else place
    was_finished = place.is_finished
    if not was_finished:
        _compute_and_deliver(settings, place, job_number)
    else:
        _deliver_again(place.directory, settings)
    if changes := place.changes():
        terminal.note(
            f"{place.directory.folder.name} was computed by other code ({changes}):"
            " rerun=true computes it afresh, in a record of its own"
        )
    result = place.directory.result
    if job_number is None or not was_finished:
        terminal.result_table(result["metrics"] | {key: result[key] for key in SHOWN})
    return float(result["metrics"]["valid/nll"])


def _compute_and_deliver(settings: Settings, place: Place, job_number: int | None) -> None:
    """Compute the run, and bring it to the store."""
    device = runtime.choose_device(settings.device, job_number or 0)
    with without_garbage_collection():  # the optimizer imports torch.compile's half of torch
        parts = build(
            settings, device, ROOT, place.dataset
        )  # before the first byte is written: there may be no data
    for note in place.notes:
        terminal.note(note)
    try:
        if job_number is None:  # for a sweep it has been done
            prepare(settings)
        _compute(settings, place, device, parts)
    except OSError as error:
        reason = ": ".join(str(part) for part in (error.filename, error.strerror or error) if part)
        raise UserError(
            f"paths.outputs={settings.paths.outputs} cannot be used ({reason}): mend that, and the same"
            " command goes on, or choose another"
        ) from error


def _compute(settings: Settings, place: Place, device: torch.device, parts: Parts) -> None:
    """Compute the run in its home, for this process alone."""
    directory, store = place.directory, _store(settings)
    digest = provenance.data(parts.dataset)
    with directory.locked(
        lambda holder: terminal.note(f"{directory.folder.name} is being computed by {holder}: waiting")
    ):
        before = directory.result  # another process may have come first
        if before.get("run_identity", place.identity.run) != place.identity.run:
            raise UserError(
                f"{directory.folder.name} has just become another run's folder: type the command again"
            )
        if place.is_finished:
            return
        place.refuse_other_code(settings)
        images = evenly_spaced(parts.dataset.test, settings.eval.images)
        plan = scoring_plan(settings.eval, parts)
        _save_config(directory, settings)
        record.begin(
            directory,
            **place.facts(),
            run=directory.folder.name,
            folder=_short(directory.folder),
            device=_device_name(device),
            eval_samples=plan.num_samples,
            eval_images=len(images),
            steps=parts.schedule[-1].last_step,
            init_from=settings.init_from,
            mixed=before.get("mixed", []),
            data=parts.dataset.provenance,
            data_digest=digest,
            provenance=provenance.provenance(),
        )
        with _status_kept(directory, store) as tracker:
            work = fit.Run(settings, directory, device, parts, images, plan, tracker)
            same_path_as = resume.same_path_as(place, digest)
            start = resume.restore(place, same_path_as, settings, device, parts)
            mixed = [*start.mixed, *([f"from step {start.step}: {start.changes}"] if start.changes else [])]
            directory.update_result(
                code=place.code,
                code_digest=provenance.code_digest(place.code),
                mixed=mixed,
                parent=start.parent,
                execution=start.execution,
            )
            _tell(directory, start, before, work.last_step)
            metrics = fit.fit(work, start) | fit.measure(work, same_path_as)
            directory.update_result(metrics=metrics)
            directory.drop_checkpoints(work.stage_ends, 0)


@contextlib.contextmanager
def _status_kept(directory: RunDirectory, store: tracking.Store | None) -> Iterator[MLflowSync]:
    """The run's log, and its records in the folder and the store, whose status is true however the block ends."""
    handler = logging.FileHandler(directory.log)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    handler.handleError = lambda record: None  # type: ignore[method-assign]  # a full disk is told once, by what fails on it
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    tracker = MLflowSync(directory, store)
    status: tracking.Status = (
        "KILLED"  # by whatever is no Exception: Ctrl-C, SIGTERM, a queue whose time is up
    )
    try:
        yield tracker
        directory.update_result(status="FINISHED")
        status = "FINISHED"
    except Exception as error:
        status = "FAILED"
        with contextlib.suppress(OSError):  # the disk may be full
            directory.traceback.write_text("".join(traceback.format_exception(error)))
            directory.update_result(error=f"{type(error).__name__}: {error}")
        log.error("%s", error)
        raise
    finally:
        log.info("status %s", status)
        log.removeHandler(handler)
        with contextlib.suppress(OSError):
            handler.close()
        with contextlib.suppress(OSError):
            directory.update_result(status=status)
        _try_delivery(tracker.close, directory)


def _deliver_again(directory: RunDirectory, settings: Settings) -> None:
    """A finished record that is not in the experiment asked for, or not wholly."""
    store = _store(settings)
    if store is not None:
        _try_delivery(lambda: mlflow_sync.ensure_delivered(directory, store), directory)


def _try_delivery(deliver: Callable[[], object], directory: RunDirectory) -> None:
    """The folder's record stands, and neither it nor what stopped a run must be hidden by a store that fails."""
    try:
        deliver()
    except UserError as error:
        terminal.note(
            f"{error}. The record is in {directory.folder}: the same command or `make sync` will deliver it"
        )


def _tell(directory: RunDirectory, start: resume.Start, before: dict[str, Any], last_step: int) -> None:
    """Where training goes on, if not at its beginning."""
    reason = before.get("error")
    said = f"was {before['status']}{f' ({reason})' if reason else ''}; " if before else ""
    if start.origin is not None:
        whose = "" if start.origin.folder == directory.folder else f" of {start.parent}"
        said += f"goes on from step {start.step}{whose} to {last_step}"
        if damaged := [step for step in directory.checkpoints() if start.step < step <= last_step]:
            said += f" (the checkpoint at step {max(damaged)} is damaged)"
    elif before:
        said += "starts again"
    if start.changes:
        said += f", otherwise than it began ({start.changes}): it is marked as mixed"
    if said:
        log.info("%s", said)
        terminal.note(f"{directory.folder.name} {said}")


def _save_config(directory: RunDirectory, settings: Settings) -> None:
    """config.yaml, without the password that a store's address may hold."""
    uri = settings.tracking.uri
    shown = settings.tracking.model_copy(update={"uri": uri and tracking.without_password(uri)})
    text = OmegaConf.to_yaml(settings.model_copy(update={"tracking": shown}).model_dump(by_alias=True))
    files.write(directory.config, text.encode())


def _store(settings: Settings) -> tracking.Store | None:
    if settings.tracking.name == "none":
        return None
    return tracking.Store(settings.tracking.uri, settings.name, ROOT)


def _short(folder: Path) -> str:
    return str(folder.relative_to(ROOT)) if folder.is_relative_to(ROOT) else str(folder)


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
