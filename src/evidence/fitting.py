"""A run's work between its first step and its last number: train, validate, commit, score.

A checkpoint commits what came before it: metrics.csv is durable by then, and only afterwards does MLflow hear of it.
"""

import contextlib
import logging
import math
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from evidence import checkpoints, data, execution, gallery, log_weights, terminal, training, trial
from evidence.building import Parts, evenly_spaced_rows
from evidence.delivery import Courier
from evidence.errors import UserError
from evidence.evaluation import Keep, Plan, evaluate
from evidence.lineage import Start
from evidence.numerics import forked_rng
from evidence.record import Home, Row

# Not of the config's eval: runs that are evaluated otherwise take over a run's metrics. valid/nll is -L_100.
VALIDATION, VALIDATION_SEED = Plan(num_samples=100, num_noises=100, rows=2000), 0

log = logging.getLogger("evidence")


class Run(NamedTuple):
    """A run that is being computed."""

    config: dict[str, Any]
    home: Home
    device: torch.device
    parts: Parts
    images: Tensor  # the test images to score
    plan: Plan
    courier: Courier

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
    trainer, parts, home = run.config["trainer"], run.parts, run.home
    seconds, recording = start.seconds, 0.0
    _try(run, start)
    if start.origin is None:
        _commit(run, start, 0, 0.0)
    run.courier.send(home.read_metrics())
    per_pass = data.steps_per_pass(parts.dataset, trainer["batch_size"])
    stream = data.batches(parts.dataset, trainer["batch_size"], run.config["seed"], start.step, run.device)
    differentiate: training.Differentiate = training.gradients
    if start.execution["compiled"]:
        differentiate = execution.compiled(training.gradients)
        if start.step < run.last_step:
            terminal.note(f"{home.folder.name} compiles its steps first: 10 to 20 s, of which they save more")
    reports = training.train(
        parts.model,
        parts.objective,
        parts.optimizer,
        stream,
        parts.schedule,
        trainer["reduction"],
        trainer["log_every"],
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
            is_due = time.monotonic() - committed > trainer["checkpoint_seconds"]
            if report.ends_segment or is_due:
                _check_finite(run, report.step)
                if report.ends_segment:
                    pending += validate(run, report.step)
                began = time.monotonic()
                home.append_metrics(pending)
                _commit(run, start, report.step, seconds)
                run.courier.send(pending)
                pending, committed = [], time.monotonic()
                recording += committed - began
    log.info("keeping records took %.2f s beside %.2f s of training", recording, seconds - start.seconds)
    if "valid/nll" not in _metrics_at(home, run.last_step):
        # A longer run's checkpoint, taken between two of its validations.
        _check_finite(run, run.last_step)
        rows = validate(run, run.last_step)
        home.append_metrics(rows)
        _commit(run, start, run.last_step, seconds)
        run.courier.send(rows)
    metrics = _metrics_at(home, run.last_step)
    kept = {name: value for name, value in metrics.items() if not name.startswith("train/")}
    return kept | {"speed/train_seconds": seconds, "speed/steps_per_second": run.last_step / seconds}


def _try(run: Run, start: Start) -> None:
    """Try model and objective on a few images, and say what of them no checkpoint keeps; it leaves a mark."""
    parts, home, batch_size = run.parts, run.home, run.config["trainer"]["batch_size"]
    with forked_rng(run.device, 0):
        stream = data.batches(parts.dataset, batch_size, run.config["seed"], start.step, run.device)
        x = torch.cat([next(stream) for _ in range(math.ceil(trial.IMAGES / batch_size))])
    images = run.images[: trial.SCORED].to(run.device)
    unsaved = trial.check(parts.model, parts.objective, x, images, run.plan, batch_size)
    if not unsaved:
        return
    names = ", ".join(unsaved)
    if start.execution["compiled"]:
        raise UserError(f"compile=true: {names} changes in a step, and each value would be compiled anew")
    note = f"no checkpoint keeps {names}, so a run that is broken off begins it anew"
    log.info("%s", note)
    terminal.note(f"{home.folder.name}: {note}")
    mark, mixed = f"from step {start.step}: {names} began anew", home.result["mixed"]
    if start.step and mark not in mixed:
        home.update_result(mixed=[*mixed, mark])


def _metrics_at(home: Home, step: int) -> dict[str, float]:
    return {name: value for name, value, at in home.read_metrics() if at == step}


def validate(run: Run, step: int) -> list[Row]:
    """valid/nll and valid/active_units at a step, from random numbers that training never sees."""
    model = run.parts.model
    with forked_rng(run.device, VALIDATION_SEED, step):
        scores = evaluate(
            model, run.parts.dataset.valid.to(run.device), VALIDATION, lambda _: run.courier.beat()
        )
    metrics = _finite({f"valid/{name}": scores.metrics[name] for name in ("nll", "active_units")}, step)
    log.info("step %d: valid/nll %.2f, valid/active_units %d", step, *metrics.values())
    return [(name, value, step) for name, value in metrics.items()]


def measure(run: Run, family: list[Home]) -> dict[str, float]:
    """The test metrics, and the figures."""
    _check_finite(run, run.last_step)
    began = time.monotonic()
    section = run.config["eval"]
    pays = len(run.images) * run.plan.num_samples >= execution.PAYING_PAIRS
    can = run.config["compile"] is not False
    plan = run.plan._replace(
        compiled=can and execution.wants_compiling("auto", [run.parts.model], run.device, pays)
    )
    keeping: contextlib.AbstractContextManager[Keep | None] = contextlib.nullcontext()
    if section["keep_log_weights"]:
        rows = evenly_spaced_rows(len(run.parts.dataset.test), section["images"])
        keeping = log_weights.writing(run.home.folder / log_weights.FILE, rows)
    with (
        forked_rng(run.device, section["seed"], run.last_step),
        terminal.counter("evaluating", len(run.images)) as advance,
        keeping as keep,
    ):

        def on_batch(count: int) -> None:
            advance(count)
            run.courier.beat()

        scores = evaluate(run.parts.model, run.images.to(run.device), plan, on_batch, keep)
        metrics = _finite({f"test/{name}": value for name, value in scores.metrics.items()}, run.last_step)
    metrics["speed/eval_seconds"] = time.monotonic() - began
    log.info("test/nll %.3f, standard error %.3f", metrics["test/nll"], metrics["test/nll_se"])
    with forked_rng(run.device, section["seed"]):
        gallery.draw(run.home, family, run.parts, run.images, scores)
    return metrics


def _commit(run: Run, start: Start, step: int, seconds: float) -> None:
    state = checkpoints.capture(step, seconds, run.parts.stateful, run.device)
    run.home.save_checkpoint(state | {"execution": start.execution}, run.stage_ends)


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
