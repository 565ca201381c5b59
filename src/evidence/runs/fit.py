"""Does a run's work from the first step to the last number: try, train, validate, commit, score."""

import contextlib
import math
import time
from collections.abc import Callable, Generator, Hashable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from evidence import data, execution, parts, streams, training
from evidence.config import messages
from evidence.config.settings import Settings
from evidence.display import terminal
from evidence.errors import UserError
from evidence.evaluation import (
    Evaluation,
    Evaluator,
    Keep,
    Noise,
    WithMetrics,
    evaluate,
    measure_whole,
    validate,
)
from evidence.parts import Parts
from evidence.records import log_weights
from evidence.records.directory import Row
from evidence.runs import figures, validation
from evidence.runs.build import compiled
from evidence.runs.driver import Reported, Training
from evidence.runs.recorder import Recorder, log
from evidence.runs.resume import Start
from evidence.runs.system import SystemMetrics
from evidence.streams import forked_rng
from evidence.trial import first_step, interfaces

# Of the number of steps, the steps a pass, and the step that training starts at.
ShowProgress = Callable[[int, int, int], contextlib.AbstractContextManager[terminal.Show]]

# By metric: what it cannot be less than, to the noise of its samples, and why.
IMPOSSIBLE = {
    "test/nll": (0.0, "no model of images of 0 and 1 has"),
    "test/kl": (-0.05, "no divergence of two densities is"),
}


class Run(NamedTuple):
    """A run that is being computed.

    images: the test images to score. also: all test images of the data sets in eval.also. form: equal for runs that
    differ in their seeds and in floats alone. progress: what shows its training.
    """

    settings: Settings
    device: torch.device
    parts: Parts
    images: Tensor
    also: Mapping[str, Tensor]
    evaluator: Evaluator
    recorder: Recorder
    start: Start
    form: Hashable
    progress: ShowProgress

    @property
    def name(self) -> str:
        """The name of its folder."""
        return self.recorder.directory.folder.name


def fit(run: Run) -> Generator[Training, Reported, dict[str, float]]:
    """Train to the end of the schedule: yields what is to be trained, and is sent each report.

    Return the metrics of the last step, except those of train/ and system/, and the speed.
    Raises: UserError where a trial finds that model and objective cannot be trained or scored.
    """
    trainer, start, last_step = run.settings.trainer, run.start, run.parts.last_step
    _try(run)
    if start.origin is None:
        _commit(run, [], 0, 0.0)
    run.recorder.begin_training()
    step, compiled = start.step, start.execution["compiled"]
    if compiled and run.parts.objective.is_compilable and step < last_step:
        rows = run.settings.k * trainer.batch_size
        saved = ", of which they save more" if execution.pays(last_step - step, rows) else ""
        terminal.note(f"{run.name} compiles its steps first: 10 to 20 s{saved}")
    per_pass = data.steps_per_pass(run.parts.dataset, trainer.batch_size)
    seconds, committed, pending = start.seconds, time.monotonic(), list[Row]()
    sizes = len(run.parts.dataset.train), len(run.parts.dataset.valid)
    every = validation.interval(run.settings, *sizes, last_step)
    system = SystemMetrics(run.device) if run.settings.tracking.system_metrics else None
    with run.progress(last_step, per_pass, step) as show:
        while step < last_step:
            report, elapsed = yield Training(
                run.parts,
                trainer.batch_size,
                trainer.reduction,
                trainer.log_every,
                run.settings.seed,
                step,
                run.device,
                start.execution,
                run.form,
            )
            last_report, step, seconds = step, report.step, seconds + elapsed
            interfaces.check_metric_names(run.parts.objective, report.metrics)
            show(step, *next(iter(report.metrics.items())))
            pending += [(_metric_name(name), value, step) for name, value in report.metrics.items()]
            if system is not None:
                pending += [(name, value, step) for name, value in system.measure().items()]
            if report.ends_segment or validation.is_due(step, last_report, every):
                pending += _validate(run, step)
            if report.ends_segment or time.monotonic() - committed > trainer.checkpoint_seconds:
                _check_finite(run, step)
                _commit(run, pending, step, seconds)
                pending, committed = [], time.monotonic()
    log.info("%.2f s of training", seconds - start.seconds)
    if "valid/nll" not in run.recorder.at(last_step):
        # The checkpoint is a longer run's, taken between two of its validations.
        _commit(run, _validate(run, last_step), last_step, seconds)
    found = run.recorder.at(last_step)
    kept = {name: value for name, value in found.items() if not name.startswith(("train/", "system/"))}
    return kept | {"speed/train_seconds": seconds, "speed/steps_per_second": last_step / seconds}


def score(run: Run) -> dict[str, float]:
    """Return the test metrics, and draw the figures."""
    _check_finite(run, run.parts.last_step)
    began = time.monotonic()
    total = len(run.parts.dataset.test)
    with _kept_log_weights(run) as keep:
        scores, found = _scored(run, "test", run.images, total, run.evaluator, keep)
    if isinstance(run.evaluator, WithMetrics):
        found["speed/metrics_seconds"] = sum(run.evaluator.spent.values())
    for name, every in run.also.items():
        plain = run.evaluator.evaluator if isinstance(run.evaluator, WithMetrics) else run.evaluator
        images = data.evenly_spaced(every, run.settings.eval.images)
        found |= _scored(run, f"test_{name}", images, len(every), plain, None)[1]
    found["speed/eval_seconds"] = time.monotonic() - began
    log.info("test/nll %.3f, standard error %.3f", found["test/nll"], found["test/nll_se"])
    for name, (least, why) in IMPOSSIBLE.items():
        if found.get(name, 0.0) < least:
            _note(run, f"{name} is below 0, which {why}: a density of the model is wrong")
    _draw(run, scores)
    return found


def _scored(
    run: Run, group: str, images: Tensor, total: int, evaluator: Evaluator, keep: Keep | None
) -> tuple[Evaluation, dict[str, float]]:
    """The scores of `images`, evenly spaced ones out of `total`, and as metrics named <group>/<metric>."""
    section, model = run.settings.eval, run.parts.model
    noise = Noise(section.seed, streams.TEST, data.evenly_spaced_rows(total, section.images))
    images = images.to(run.device)
    evaluator = compiled(evaluator, run.settings.compile, model, len(images), run.device)
    with terminal.counter("evaluating", len(images)) as advance:

        def on_batch(count: int) -> None:
            advance(count)
            run.recorder.heartbeat()

        scores = evaluate(model, images, evaluator, on_batch, keep, noise)
        taken = scores.metrics.keys()
        whole = measure_whole(model, run.parts.objective, images, evaluator, noise, taken)
    named = {f"{group}/{name}": value for name, value in (scores.metrics | whole).items()}
    return scores, validation.finite(named, run.parts.last_step)


def _draw(run: Run, scores: Evaluation) -> None:
    """Draw the figures. What goes wrong with them is noted, since the numbers are right without them."""
    seed, directory = run.settings.eval.seed, run.recorder.directory
    stream = streams.Stream(seed, streams.FIGURES)
    try:
        with forked_rng(run.device, seed, streams.FIGURES), streams.drawing(stream):
            figures.draw(directory, run.start.same_path, run.parts, run.images, scores)
    except Exception as error:
        _note(run, f"its figures are not drawn ({messages.describe(error)})", error)


def _note(run: Run, text: str, error: Exception | None = None) -> None:
    """Say it on stderr and in the run's log, with the error's traceback in the log."""
    log.warning("%s", text, exc_info=error)
    terminal.note(f"{run.name}: {text}")


def _try(run: Run) -> None:
    """Try model and objective on a few images. Note what of their state no checkpoint keeps.

    A run that is resumed with such state is marked as mixed.
    """
    batch_size, step, directory = run.settings.trainer.batch_size, run.start.step, run.recorder.directory
    batches = data.batches(run.parts.dataset, batch_size, run.settings.seed, step, run.device)
    x = torch.cat([next(batches) for _ in range(math.ceil(first_step.IMAGES / batch_size))])
    images = run.images[: first_step.SCORED].to(run.device)
    model, objective = run.parts.model, run.parts.objective
    unsaved, notes = first_step.check(model, objective, x, images, run.evaluator, batch_size)
    for note in notes:
        _note(run, note)
    if not unsaved:
        return
    names = ", ".join(unsaved)
    if run.start.execution["compiled"]:
        raise UserError(f"compile=true: {names} changes in a step, and each value would be compiled anew")
    _note(run, f"no checkpoint keeps {names}, so a run that is broken off begins it anew")
    mark = f"from step {step}: {names} began anew"
    if step and mark not in run.start.mixed:
        directory.update(mixed=[*run.start.mixed, mark])


def _validate(run: Run, step: int) -> list[Row]:
    """valid/nll and valid/active_units at a step."""
    _check_finite(run, step)
    images = run.parts.dataset.valid.to(run.device)
    metrics = validation.finite(validate(run.parts.model, images, lambda _: run.recorder.heartbeat()), step)
    log.info("step %d: valid/nll %.2f, valid/active_units %d", step, *metrics.values())
    return [(name, value, step) for name, value in metrics.items()]


def _kept_log_weights(run: Run) -> contextlib.AbstractContextManager[Keep | None]:
    section = run.settings.eval
    if not section.keep_log_weights:
        return contextlib.nullcontext()
    rows = data.evenly_spaced_rows(len(run.parts.dataset.test), section.images)
    return log_weights.writing(run.recorder.directory.folder / log_weights.FILE, rows)


def _commit(run: Run, rows: list[Row], step: int, seconds: float) -> None:
    about = {"step": step, "seconds": seconds, "execution": run.start.execution}
    state = about | {"mean_pixels": run.parts.mean_pixels} | parts.capture(run.parts.stateful)
    run.recorder.commit(rows, state)


def _check_finite(run: Run, step: int) -> None:
    """Raise UserError where a parameter or buffer is not finite. Call it before the parts are scored or kept."""
    training.check_finite({"model": run.parts.model, "objective": run.parts.objective}, step)


def _metric_name(name: str) -> str:
    return name if "/" in name else f"train/{name}"
