"""One run, from validated settings to its record: home, lock, seed, build, fit, evaluate, record.

A run's home is outputs/<name>, named by its identity. A run that is finished is shown and not repeated; one that was
broken off goes on from its last checkpoint; a new one starts from the furthest checkpoint of any run with the same
train identity, so that more stages train only the rest and another evaluation only evaluates.
"""

import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from omegaconf import OmegaConf
from torch import Tensor

from evidence import checkpoints, data, gallery, terminal, tracking, training
from evidence.building import Parts, build, choose_device, evenly_spaced
from evidence.building import plan as scoring_plan
from evidence.config import Settings
from evidence.errors import Terminated, UserError
from evidence.evaluation import Plan, evaluate
from evidence.identity import Identity, identify
from evidence.identity import params as identity_params
from evidence.numerics import forked_rng
from evidence.record import Home, Row, latest_checkpoint, relatives

ROOT = Path(__file__).resolve().parents[2]  # where run.py lies: relative paths and MLflow's store start here
CHECKPOINT_SECONDS = 60.0  # at most so much work is lost
VALIDATION_SAMPLES = 100  # valid/nll is -L_100
SHOWN = ("run", "folder", "eval_samples", "eval_images", "device")  # beside the metrics

log = logging.getLogger("evidence")


def run(settings: Settings) -> float:
    """Train and evaluate as `settings` say, record it, show it, and return valid/nll (nats, lower is better).

    Raises: UserError for what the user can mend.
    """
    torch.set_flush_denormal(True)  # before any other tensor operation, so that worker threads inherit it
    config = settings.model_dump(by_alias=True)
    identity = identify(config)
    device = choose_device(settings.device)
    home = Home(ROOT / settings.paths.outputs / identity.name)
    if home.result.get("status") != "FINISHED":
        parts = build(config, device, ROOT)  # before the first byte is written: there may be no data
        try:
            home.create()
            with FileLock(home.folder / ".lock", blocking=False):
                _record_run(config, identity, device, home, parts)
        except Timeout:
            raise UserError(f"{home.folder} is in use: another process is computing this run") from None
        except OSError as error:
            raise UserError(f"paths.outputs={settings.paths.outputs} cannot be written: {error}") from error
    result = home.result
    terminal.result_table(result["metrics"] | {key: result[key] for key in SHOWN})
    return float(result["metrics"]["valid/nll"])


def _record_run(
    config: dict[str, Any], identity: Identity, device: torch.device, home: Home, parts: Parts
) -> None:
    """Fit and evaluate inside the run's records, whose status is true however this ends."""
    images = evenly_spaced(parts.dataset.test, config["eval"]["images"])
    plan = scoring_plan(config["eval"], parts)
    OmegaConf.save(OmegaConf.create(config), home.config)
    handler = logging.FileHandler(home.log)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    before = home.result
    outputs = home.folder.parent
    ancestors = [
        home,
        *(other for other in relatives(outputs, identity.train) if other.folder != home.folder),
    ]
    home.update_result(
        run=identity.name,
        status="RUNNING",
        train_identity=identity.train,
        run_identity=identity.run,
        folder=_short(home.folder),
        device=_device_name(device),
        eval_samples=plan.num_samples,
        eval_images=len(images),
        data=parts.dataset.provenance,
        error=None,
    )
    tracker: tracking.Tracking = tracking.NoTracking()
    status: tracking.Status = "FAILED"
    try:
        tracker = _open_tracker(config, identity, home, before.get("mlflow_run_id"), device)
        home.update_result(mlflow_run_id=tracker.run_id)
        metrics = fit(config, home, ancestors, device, parts, tracker)
        metrics |= measure(config, home, ancestors, device, parts, images, plan)
        home.update_result(metrics=metrics)
        last_step = parts.schedule[-1].last_step
        final = {name: value for name, value in metrics.items() if name.startswith(("test/", "speed/"))}
        tracker.log([(name, float(value), last_step) for name, value in final.items()])
        for path in (home.config, *sorted(home.figures.glob("*.png"))):
            tracker.artifact(path, "figures" if path.suffix == ".png" else None)
        status = "FINISHED"
    except (KeyboardInterrupt, Terminated):
        status = "KILLED"
        raise
    except Exception as error:
        home.update_result(error=f"{type(error).__name__}: {error}")
        log.exception("failed")
        raise
    finally:
        home.update_result(status=status)
        log.info("status %s", status)
        try:
            tracker.close(status)
        except UserError as error:  # the folder's record stands, and what stopped the run must not be hidden
            log.warning("%s", error)
        log.removeHandler(handler)
        handler.close()


def fit(
    config: dict[str, Any],
    home: Home,
    ancestors: list[Home],
    device: torch.device,
    parts: Parts,
    tracker: tracking.Tracking,
) -> dict[str, float]:
    """Train to the end of the schedule from the furthest checkpoint there is; the last validation and the speed.

    A checkpoint is the commit point: metrics.csv is cut back to it, and MLflow only receives what it covers.
    """
    trainer, last_step = config["trainer"], parts.schedule[-1].last_step
    step, seconds, pending = _take_up(home, ancestors, device, parts, tracker)
    stage_ends = {0, *(segment.last_step for segment in parts.schedule)}
    periodic = step if step not in stage_ends and step in home.checkpoints() else None
    batch_size = trainer["batch_size"]
    per_pass = data.steps_per_pass(parts.dataset, batch_size)
    stream = data.batches(parts.dataset, batch_size, config["seed"], step, device)
    reports = training.train(
        parts.model,
        parts.objective,
        parts.optimizer,
        stream,
        parts.schedule,
        trainer["reduction"],
        trainer["log_every"],
        step,
    )
    saved = time.monotonic()
    with terminal.progress(last_step, per_pass, step) as bar:
        for report, elapsed in _timed(reports):
            seconds += elapsed
            rows = [(_metric_name(name), value, report.step) for name, value in report.metrics.items()]
            name, value = next(iter(report.metrics.items()))
            bar.update(report.step, name, value)
            if report.ends_segment:
                rows += validate(config, device, parts, report.step)
            home.append_metrics(rows)
            pending += rows
            if report.ends_segment or time.monotonic() - saved > CHECKPOINT_SECONDS:
                state = checkpoints.capture(report.step, seconds, parts.stateful, device)
                home.save_checkpoint(state, periodic)
                periodic = None if report.ends_segment else report.step
                tracker.log(pending)
                pending, saved = [], time.monotonic()
    tracker.log(pending)
    latest = {name: value for name, value, _ in home.read_metrics(last_step)}
    kept = {name: value for name, value in latest.items() if name.split("/")[0] in ("valid", "hmc", "critic")}
    return kept | {"speed/train_seconds": seconds, "speed/steps_per_second": last_step / seconds}


def _take_up(
    home: Home, ancestors: list[Home], device: torch.device, parts: Parts, tracker: tracking.Tracking
) -> tuple[int, float, list[Row]]:
    """Where training starts: the step, the seconds spent so far, and the metrics that MLflow has not seen."""
    found = latest_checkpoint(ancestors, parts.schedule[-1].last_step)
    if found is None or found[1]["step"] == 0:
        home.replace_metrics([])
        home.save_checkpoint(checkpoints.capture(0, 0.0, parts.stateful, device), None)
        return 0, 0.0, []
    origin, state = found
    checkpoints.restore(state, parts.stateful, device)
    log.info("going on from step %d of %s", state["step"], origin.folder.name)
    rows = origin.read_metrics(state["step"])
    home.replace_metrics(rows)
    if origin.folder == home.folder:
        return state["step"], state["seconds"], []
    tracker.tag("parent", origin.folder.name)
    return state["step"], state["seconds"], rows


def validate(config: dict[str, Any], device: torch.device, parts: Parts, step: int) -> list[Row]:
    """valid/nll and valid/active_units at a step, from random numbers that training never sees."""
    plan = Plan(VALIDATION_SAMPLES, VALIDATION_SAMPLES, config["eval"]["rows"])
    with forked_rng(device, config["eval"]["seed"], step):
        scores = evaluate(parts.model, parts.dataset.valid.to(device), plan, lambda _: None)
    parts.model.train()
    rows = [(f"valid/{name}", float(scores.metrics[name]), step) for name in ("nll", "active_units")]
    log.info("step %d: valid/nll %.2f, valid/active_units %d", step, rows[0][1], rows[1][1])
    return rows


def measure(
    config: dict[str, Any],
    home: Home,
    ancestors: list[Home],
    device: torch.device,
    parts: Parts,
    images: Tensor,
    plan: Plan,
) -> dict[str, float]:
    """The test metrics, and the figures."""
    began = time.monotonic()
    last_step = parts.schedule[-1].last_step
    with (
        forked_rng(device, config["eval"]["seed"], last_step),
        terminal.counter("evaluating", len(images)) as on_batch,
    ):
        scores = evaluate(parts.model, images.to(device), plan, on_batch)
    metrics = {f"test/{name}": value for name, value in scores.metrics.items()}
    metrics["speed/eval_seconds"] = time.monotonic() - began
    log.info("test/nll %.3f, standard error %.3f", metrics["test/nll"], metrics["test/nll_se"])
    with forked_rng(device, config["eval"]["seed"]):
        gallery.draw(home, ancestors, parts, images, scores)
    return metrics


def _timed(reports: Iterator[training.Report]) -> Iterator[tuple[training.Report, float]]:
    """Each report with the seconds spent computing it."""
    while True:
        began = time.monotonic()
        report = next(reports, None)
        if report is None:
            return
        yield report, time.monotonic() - began


def _metric_name(name: str) -> str:
    return name if "/" in name else f"train/{name}"


def _short(folder: Path) -> str:
    return str(folder.relative_to(ROOT)) if folder.is_relative_to(ROOT) else str(folder)


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def _open_tracker(
    config: dict[str, Any], identity: Identity, home: Home, run_id: str | None, device: torch.device
) -> tracking.Tracking:
    if config["tracking"]["name"] == "none":
        return tracking.NoTracking()
    result = home.result
    params = identity_params(config, result["eval_samples"], result["eval_images"])
    tags = {
        "train_identity": identity.train,
        "run_identity": identity.run,
        "folder": _short(home.folder),
        "device": _device_name(device),
        **tracking.provenance(),
    }
    uri, experiment = config["tracking"]["uri"], config["name"]
    return tracking.open_run(uri, experiment, identity.name, params, tags, ROOT, run_id)
