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

from evidence import delivery, execution, files, fingerprint, fitting, lineage, record, terminal, tracking
from evidence.building import Parts, build, evenly_spaced
from evidence.building import plan as scoring_plan
from evidence.config import Settings
from evidence.delivery import Courier
from evidence.errors import UserError
from evidence.importing import uncollected
from evidence.lineage import Place
from evidence.record import Home

ROOT = Path(__file__).resolve().parents[2]  # where run.py lies: relative paths and MLflow's store start here
SHOWN = ("run", "folder", "eval_samples", "eval_images", "device")  # beside the metrics

log = logging.getLogger("evidence")


def prepare(settings: Settings) -> None:
    """Before the first job: close what vanished processes have left RUNNING, and make the store and the experiment.

    Raises: UserError where the store cannot be used.
    """
    store = _store(settings)
    if store is not None:
        tracking.prepare(store)
    delivery.close_vanished(ROOT / settings.paths.outputs, store)


def sync(settings: Settings) -> None:
    """Deliver to MLflow the records that it lacks; raises UserError where the store cannot be used."""
    outputs = ROOT / settings.paths.outputs
    delivery.close_vanished(outputs, None)
    delivery.sync(outputs, settings.tracking.uri, ROOT)
    prepare(settings)


def run(settings: Settings, place: Place | None = None, job_number: int | None = None) -> float:
    """Train and evaluate as `settings` say, record it, show it, and return valid/nll (nats, lower is better).

    `place` is the run's, where the caller has located it. `job_number` is that of a job in a sweep, which does not
    show what it finds finished. Raises: UserError for what the user can mend.
    """
    torch.set_flush_denormal(True)  # before any other tensor operation, so that worker threads inherit it
    torch.set_default_dtype(torch.float32)  # a user's module of a job before may have changed it
    place = lineage.locate(settings, ROOT) if place is None else place
    was_finished = place.is_finished
    if not was_finished:
        _compute_and_deliver(settings, place, job_number)
    else:
        _deliver_again(place.home, settings)
    if changes := place.changes():
        terminal.note(
            f"{place.home.folder.name} was computed by other code ({changes}):"
            " rerun=true computes it afresh, in a record of its own"
        )
    result = place.home.result
    if job_number is None or not was_finished:
        terminal.result_table(result["metrics"] | {key: result[key] for key in SHOWN})
    return float(result["metrics"]["valid/nll"])


def _compute_and_deliver(settings: Settings, place: Place, job_number: int | None) -> None:
    """Compute the run, and bring it to the store."""
    config = settings.model_dump(by_alias=True)
    device = execution.choose_device(settings.device, job_number or 0)
    with uncollected():  # the optimizer imports torch.compile's half of torch
        parts = build(
            config, device, ROOT, place.dataset
        )  # before the first byte is written: there may be no data
    for note in place.notes:
        terminal.note(note)
    try:
        if job_number is None:  # for a sweep it has been done
            prepare(settings)
        _compute(settings, config, place, device, parts)
    except OSError as error:
        reason = ": ".join(str(part) for part in (error.filename, error.strerror or error) if part)
        raise UserError(
            f"paths.outputs={settings.paths.outputs} cannot be used ({reason}): mend that, and the same"
            " command goes on, or choose another"
        ) from error


def _compute(
    settings: Settings, config: dict[str, Any], place: Place, device: torch.device, parts: Parts
) -> None:
    """Compute the run in its home, for this process alone."""
    home, store = place.home, _store(settings)
    digest = fingerprint.data(parts.dataset)
    with home.held(
        lambda holder: terminal.note(f"{home.folder.name} is being computed by {holder}: waiting")
    ):
        before = home.result  # another process may have come first
        if before.get("run_identity", place.identity.run) != place.identity.run:
            raise UserError(
                f"{home.folder.name} has just become another run's folder: type the command again"
            )
        if place.is_finished:
            return
        place.refuse_other_code(settings)
        images = evenly_spaced(parts.dataset.test, settings.eval.images)
        plan = scoring_plan(config["eval"], parts)
        _save_config(home, config)
        record.begin(
            home,
            **place.facts(),
            run=home.folder.name,
            folder=_short(home.folder),
            device=_device_name(device),
            eval_samples=plan.num_samples,
            eval_images=len(images),
            steps=parts.schedule[-1].last_step,
            init_from=settings.init_from,
            mixed=before.get("mixed", []),
            data=parts.dataset.provenance,
            data_digest=digest,
            provenance=fingerprint.provenance(),
        )
        with _status_kept(home, store) as courier:
            work = fitting.Run(config, home, device, parts, images, plan, courier)
            family = lineage.family(place, digest)
            start = lineage.take_up(place, family, config, device, parts)
            mixed = [*start.mixed, *([f"from step {start.step}: {start.changes}"] if start.changes else [])]
            home.update_result(
                code=place.code,
                code_digest=fingerprint.code_digest(place.code),
                mixed=mixed,
                parent=start.parent,
                execution=start.execution,
            )
            _tell(home, start, before, work.last_step)
            metrics = fitting.fit(work, start) | fitting.measure(work, family)
            home.update_result(metrics=metrics)
            home.drop_checkpoints(work.stage_ends, 0)


@contextlib.contextmanager
def _status_kept(home: Home, store: tracking.Store | None) -> Iterator[Courier]:
    """The run's log, and its records in the folder and the store, whose status is true however the block ends."""
    handler = logging.FileHandler(home.log)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    handler.handleError = lambda record: None  # type: ignore[method-assign]  # a full disk is told once, by what fails on it
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    courier = Courier(home, store)
    status: tracking.Status = (
        "KILLED"  # by whatever is no Exception: Ctrl-C, SIGTERM, a queue whose time is up
    )
    try:
        yield courier
        home.update_result(status="FINISHED")
        status = "FINISHED"
    except Exception as error:
        status = "FAILED"
        with contextlib.suppress(OSError):  # the disk may be full
            home.traceback.write_text("".join(traceback.format_exception(error)))
            home.update_result(error=f"{type(error).__name__}: {error}")
        log.error("%s", error)
        raise
    finally:
        log.info("status %s", status)
        log.removeHandler(handler)
        with contextlib.suppress(OSError):
            handler.close()
        with contextlib.suppress(OSError):
            home.update_result(status=status)
        _try_delivery(courier.close, home)


def _deliver_again(home: Home, settings: Settings) -> None:
    """A finished record that is not in the experiment asked for, or not wholly."""
    store = _store(settings)
    if store is not None:
        _try_delivery(lambda: delivery.ensure_delivered(home, store), home)


def _try_delivery(deliver: Callable[[], object], home: Home) -> None:
    """The folder's record stands, and neither it nor what stopped a run must be hidden by a store that fails."""
    try:
        deliver()
    except UserError as error:
        terminal.note(
            f"{error}. The record is in {home.folder}: the same command or `make sync` will deliver it"
        )


def _tell(home: Home, start: lineage.Start, before: dict[str, Any], last_step: int) -> None:
    """Where training goes on, if not at its beginning."""
    reason = before.get("error")
    said = f"was {before['status']}{f' ({reason})' if reason else ''}; " if before else ""
    if start.origin is not None:
        whose = "" if start.origin.folder == home.folder else f" of {start.parent}"
        said += f"goes on from step {start.step}{whose} to {last_step}"
        if damaged := [step for step in home.checkpoints() if start.step < step <= last_step]:
            said += f" (the checkpoint at step {max(damaged)} is damaged)"
    elif before:
        said += "starts again"
    if start.changes:
        said += f", otherwise than it began ({start.changes}): it is marked as mixed"
    if said:
        log.info("%s", said)
        terminal.note(f"{home.folder.name} {said}")


def _save_config(home: Home, config: dict[str, Any]) -> None:
    """config.yaml, without the password that a store's address may hold."""
    uri = config["tracking"]["uri"]
    shown = config["tracking"] | {"uri": uri and tracking.without_password(uri)}
    text = OmegaConf.to_yaml(OmegaConf.create(config | {"tracking": shown}))
    files.write(home.config, text.encode())


def _store(settings: Settings) -> tracking.Store | None:
    if settings.tracking.name == "none":
        return None
    return tracking.Store(settings.tracking.uri, settings.name, ROOT)


def _short(folder: Path) -> str:
    return str(folder.relative_to(ROOT)) if folder.is_relative_to(ROOT) else str(folder)


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
