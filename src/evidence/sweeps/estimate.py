"""How long what is left of some jobs takes: measured by taking a few steps, and not guessed.

Jobs that differ in their seed or learning rate only cost the same, so one of them is built, trained for a few steps
and scored on a few images; its costs are then scaled to what each of the jobs has left.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from evidence import data, execution, training
from evidence.config.compose import Job
from evidence.config.settings import Settings
from evidence.evaluation import IMAGES_PER_BATCH, VALIDATION, Evaluator, evaluate
from evidence.numerics import forked_rng
from evidence.parts import Parts
from evidence.runs import build, provenance, resume
from evidence.runs.resume import Place

TOTAL_SECONDS = 20.0  # of measuring; what is not reached by then is taken to cost as much as the rest
MOMENT = 0.5  # seconds of training, and half of that of either scoring, where there is time for so much
MIN_STEPS = 7
MAX_STEPS = 200
COSTLY = {"objective", "model", "data", "k", "eval", "device", "paths", "trainer"}
COSTLESS = {"learning_rate", "scale_rate", "name", "log_every", "checkpoint_seconds"}


class Costs(NamedTuple):
    """Seconds of one step, of one validation and of the final scoring; where validations come; a hash of the data."""

    step: float
    validation: float
    scoring: float
    ends: list[int]
    data: str


class Estimate(NamedTuple):
    """Seconds that a job has left (None: unknown, and why) and the step it goes on from; rough if not measured."""

    seconds: float | None
    first_step: int = 0
    is_rough: bool = False
    reason: str = ""


def estimate(jobs: Sequence[tuple[Job, Place]], root: Path) -> list[Estimate]:
    """What is left of each job; takes little more than TOTAL_SECONDS."""
    deadline = time.monotonic() + TOTAL_SECONDS
    kinds = {_kind(job): (job, place.dataset) for job, place in reversed(jobs)}
    costs: dict[str, Costs | str] = {}
    for kind in reversed(kinds):
        share = (deadline - time.monotonic()) / (len(kinds) - len(costs))
        if share <= 0:
            break
        costs[kind] = _costs(*kinds[kind], root, min(MOMENT, share / 4))
    found = [_left(costs.get(_kind(job)), place) for job, place in jobs]
    measured = [each.seconds for each in found if each.seconds is not None]
    mean = sum(measured) / len(measured) if measured else None
    return [
        each if each.seconds is not None or each.reason else Estimate(mean, is_rough=True) for each in found
    ]


def _kind(job: Job) -> str:
    """Equal for jobs whose steps and scores cost the same."""
    return job.settings.model_dump_json(include=COSTLY, exclude={"trainer": COSTLESS})


def _costs(job: Job, dataset: data.Dataset | None, root: Path, moment: float) -> Costs | str:
    """The measured costs, or why they cannot be had: there may be no data, and a user's class may do anything."""
    settings = job.settings
    torch.set_flush_denormal(True)  # as a run does, before any other tensor operation
    try:
        device = execution.choose_device(settings.device, 0)
        with forked_rng(device, 0):
            return _measured(settings, device, build.build(settings, device, root, dataset), moment)
    except Exception as error:
        return " ".join(str(error).split())
    finally:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _measured(settings: Settings, device: torch.device, parts: Parts, moment: float) -> Costs:
    scoring = build.evaluators(settings.eval).suited_to(parts.model, parts.dataset.test)
    images = data.evenly_spaced(parts.dataset.test, settings.eval.images)
    step = _step_seconds(settings, device, parts, moment)

    def per_image(images: Tensor, plan: Evaluator) -> float:
        return _image_seconds(
            lambda count: evaluate(parts.model, images[:count].to(device), plan, _unheard), moment / 2
        )

    return Costs(
        step,
        len(parts.dataset.valid)
        * per_image(parts.dataset.valid, VALIDATION.suited_to(parts.model, parts.dataset.valid)),
        len(images) * per_image(images, scoring),
        [segment.last_step for segment in parts.schedule],
        provenance.data(parts.dataset),
    )


def _step_seconds(settings: Settings, device: torch.device, parts: Parts, moment: float) -> float:
    trainer = settings.trainer
    stream = data.batches(parts.dataset, trainer.batch_size, settings.seed, 0, device)
    schedule = [training.Segment(MAX_STEPS, trainer.learning_rate)]
    reports = training.train(
        parts.model, parts.objective, parts.optimizer, stream, schedule, trainer.reduction, log_every=1
    )
    began = time.monotonic()
    taken: list[float] = []
    for _ in reports:
        taken.append(time.monotonic() - began - sum(taken))
        if len(taken) >= MIN_STEPS and sum(taken) > moment:
            break
    return statistics.median(
        taken
    )  # the first ones fetch memory and choose kernels; some wait for other work


def _image_seconds(score: Callable[[int], object], moment: float) -> float:
    """Seconds an image, from two and then from as many as take a moment."""
    count = 2
    for _ in range(2):
        began = time.monotonic()
        score(count)
        each = (time.monotonic() - began) / count
        scored, count = count, int(min(max(moment / each, 2), IMAGES_PER_BATCH))
        if count <= scored:
            break
    return each


def _unheard(count: int) -> None: ...


def _left(costs: Costs | str | None, place: Place) -> Estimate:
    if not isinstance(costs, Costs):
        return Estimate(None, reason=costs or "")
    last = costs.ends[-1]
    steps = [
        step
        for directory in resume._same_path_as(place, costs.data)
        for step in directory.checkpoints()
        if step <= last
    ]
    first = max(steps, default=0)
    validations = sum(end > first for end in costs.ends)
    seconds = (last - first) * costs.step + validations * costs.validation + costs.scoring
    return Estimate(seconds, first)
