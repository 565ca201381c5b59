"""A run's work between its first step and its last number: train, validate, commit, score.

A checkpoint commits what came before it: metrics.csv is durable by then, and only afterwards does MLflow hear of it.
"""

import contextlib
import logging
import math
import time
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from evidence import data, evaluation, training
from evidence.config.settings import Settings
from evidence.display import terminal
from evidence.errors import UserError
from evidence.evaluation import Keep, Plan, evaluate
from evidence.numerics import forked_rng
from evidence.records import checkpoints, log_weights
from evidence.records.directory import Row, RunDirectory
from evidence.runs import figures, runtime
from evidence.runs.build import Parts
from evidence.runs.resume import Start
from evidence.tracking.mlflow_sync import MLflowSync
from evidence.trial import first_step

log = logging.getLogger("evidence")


class Run(NamedTuple):
    """A run that is being computed."""

    settings: Settings
    directory: RunDirectory
    device: torch.device
    parts: Parts
    images: Tensor  # the test images to score
    plan: Plan
    tracker: MLflowSync

    @property
    def last_step(self) -> int:
        """The number of steps in all."""
        return self.parts.schedule[-1].last_step

    @property
    def stage_ends(self) -> set[int]:
        """The steps whose checkpoints are kept."""
        return {0, *(segment.last_step for segment in self.parts.schedule)}


def fit(run: Run, start: Start) -> dict[str, float]:
    """Train from `start` to the end of the schedule; the metrics at its last step, and the speed.

    Raises: UserError where a trial finds that model and objective cannot be trained or scored.
    """
    trainer, parts, directory = run.settings.trainer, run.parts, run.directory
    seconds, recording = start.seconds, 0.0
    _try(run, start)
    if start.origin is None:
        _commit(run, start, 0, 0.0)
    run.tracker.send(directory.read_metrics())
    per_pass = data.steps_per_pass(parts.dataset, trainer.batch_size)
    stream = data.batches(parts.dataset, trainer.batch_size, run.settings.seed, start.step, run.device)
    differentiate: training.Differentiate = training.gradients
    if start.execution["compiled"]:
        differentiate = training.compiled(training.gradients)
        if start.step < run.last_step:
            terminal.note(
                f"{directory.folder.name} compiles its steps first: 10 to 20 s, of which they save more"
            )
    reports = training.train(
        parts.model,
        parts.objective,
        parts.optimizer,
        stream,
        parts.schedule,
        trainer.reduction,
        trainer.log_every,
        start.step,
        differentiate,
    )
    committed, pending = time.monotonic(), []
    with terminal.progress(run.last_step, per_pass, start.step) as bar:
        for report, elapsed in _timed(reports):
            seconds += elapsed
            name, value = next(iter(report.metrics.items()))
            bar.update(report.step, name, value)
            pending += [(_metric_name(name), value, report.step) for name, value in report.metrics.items()]
            is_due = time.monotonic() - committed > trainer.checkpoint_seconds
            if report.ends_segment or is_due:
                _check_finite(run, report.step)
                if report.ends_segment:
                    pending += validate(run, report.step)
                began = time.monotonic()
                directory.append_metrics(pending)
                _commit(run, start, report.step, seconds)
                run.tracker.send(pending)
                pending, committed = [], time.monotonic()
                recording += committed - began
    log.info("keeping records took %.2f s beside %.2f s of training", recording, seconds - start.seconds)
    if "valid/nll" not in _metrics_at(directory, run.last_step):
        # A longer run's checkpoint, taken between two of its validations.
        _check_finite(run, run.last_step)
        rows = validate(run, run.last_step)
        directory.append_metrics(rows)
        _commit(run, start, run.last_step, seconds)
        run.tracker.send(rows)
    metrics = _metrics_at(directory, run.last_step)
    kept = {name: value for name, value in metrics.items() if not name.startswith("train/")}
    return kept | {"speed/train_seconds": seconds, "speed/steps_per_second": run.last_step / seconds}


def _try(run: Run, start: Start) -> None:
    """Try model and objective on a few images, and say what of them no checkpoint keeps; it leaves a mark."""
    parts, directory, batch_size = run.parts, run.directory, run.settings.trainer.batch_size
    with forked_rng(run.device, 0):
        stream = data.batches(parts.dataset, batch_size, run.settings.seed, start.step, run.device)
        x = torch.cat([next(stream) for _ in range(math.ceil(first_step.IMAGES / batch_size))])
    images = run.images[: first_step.SCORED].to(run.device)
    unsaved = first_step.check(parts.model, parts.objective, x, images, run.plan, batch_size)
    if not unsaved:
        return
    names = ", ".join(unsaved)
    if start.execution["compiled"]:
        raise UserError(f"compile=true: {names} changes in a step, and each value would be compiled anew")
    note = f"no checkpoint keeps {names}, so a run that is broken off begins it anew"
    log.info("%s", note)
    terminal.note(f"{directory.folder.name}: {note}")
    mark, mixed = f"from step {start.step}: {names} began anew", directory.result["mixed"]
    if start.step and mark not in mixed:
        directory.update_result(mixed=[*mixed, mark])


def _metrics_at(directory: RunDirectory, step: int) -> dict[str, float]:
    return {name: value for name, value, at in directory.read_metrics() if at == step}


def validate(run: Run, step: int) -> list[Row]:
    """valid/nll and valid/active_units at a step."""
    images = run.parts.dataset.valid.to(run.device)
    found = evaluation.validate(run.parts.model, images, step, lambda _: run.tracker.heartbeat())
    metrics = _finite({f"valid/{name}": value for name, value in found.items()}, step)
    log.info("step %d: valid/nll %.2f, valid/active_units %d", step, *metrics.values())
    return [(name, value, step) for name, value in metrics.items()]


def measure(run: Run, same_path_as: list[RunDirectory]) -> dict[str, float]:
    """The test metrics, and the figures."""
    _check_finite(run, run.last_step)
    began = time.monotonic()
    section = run.settings.eval
    pays = len(run.images) * run.plan.num_samples >= runtime.PAYING_PAIRS
    can = run.settings.compile is not False
    plan = run.plan._replace(
        compiled=can and runtime.wants_compiling("auto", [run.parts.model], run.device, pays)
    )
    keeping: contextlib.AbstractContextManager[Keep | None] = contextlib.nullcontext()
    if section.keep_log_weights:
        rows = data.evenly_spaced_rows(len(run.parts.dataset.test), section.images)
        keeping = log_weights.writing(run.directory.folder / log_weights.FILE, rows)
    with (
        forked_rng(run.device, section.seed, run.last_step),
        terminal.counter("evaluating", len(run.images)) as advance,
        keeping as keep,
    ):

        def on_batch(count: int) -> None:
            advance(count)
            run.tracker.heartbeat()

        scores = evaluate(run.parts.model, run.images.to(run.device), plan, on_batch, keep)
        metrics = _finite({f"test/{name}": value for name, value in scores.metrics.items()}, run.last_step)
    metrics["speed/eval_seconds"] = time.monotonic() - began
    log.info("test/nll %.3f, standard error %.3f", metrics["test/nll"], metrics["test/nll_se"])
    with forked_rng(run.device, section.seed):
        figures.draw(run.directory, same_path_as, run.parts, run.images, scores)
    return metrics


def _commit(run: Run, start: Start, step: int, seconds: float) -> None:
    state = checkpoints.capture(step, seconds, run.parts.stateful, run.device)
    run.directory.save_checkpoint(state | {"execution": start.execution}, run.stage_ends)


def _check_finite(run: Run, step: int) -> None:
    """Before a number is made of the parts or they are kept; raises UserError naming what is not finite."""
    training.check_finite({"model": run.parts.model, "objective": run.parts.objective}, step)


def _finite(metrics: dict[str, float], step: int) -> dict[str, float]:
    """The metrics as floats; raises UserError naming the first that is not finite."""
    for name, value in metrics.items():
        if not math.isfinite(value):
            raise UserError(training.diverged(f"{name} is {value} at step {step}"))
    return {name: float(value) for name, value in metrics.items()}


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
