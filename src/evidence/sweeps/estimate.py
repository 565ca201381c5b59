"""Estimates how long the remaining jobs take, from the speed of finished runs.

Runs of one kind cost the same. A run's kind is its processor, its device and the settings that cost time: seed and
learning rate do not. A kind's speed is the median over its finished records. Training costs seconds a step.
Validation and the final scoring cost seconds a draw. A draw is one sample of one image, or one noise of that sample
where the posterior is semi-implicit. `eval.metrics` costs seconds an image, known where a run of the kind has measured
the same metrics. The number of threads is not compared.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch

from evidence import execution, training
from evidence.config.settings import Settings
from evidence.evaluation import VALIDATION
from evidence.records.damage import left_out
from evidence.records.directory import RunDirectory, Stored
from evidence.records.identity import VERSION
from evidence.records.record import Record, training_code
from evidence.runs import hardware
from evidence.runs.lookup import LocatedRun
from evidence.runs.validation import interval

SPLITS = ("train", "valid", "test")


class Estimate(NamedTuple):
    """The seconds that a job has left, and the step that it starts from.

    The seconds are None where no run of its kind has finished.
    """

    seconds: float | None
    first_step: int = 0


class Speed(NamedTuple):
    """Seconds a step, a draw, and an image for eval.metrics, of one finished run."""

    step: float
    draw: float
    image: float
    is_semi_implicit: bool


def estimate(
    jobs: Iterable[tuple[Settings, LocatedRun]], records: Callable[[Path], Sequence[Stored]]
) -> list[Estimate]:
    """The time that each job has left, from the records in its folder of outputs."""
    history = cache(lambda outputs: History(records(outputs)))
    return [history(located.directory.folder.parent).left(settings, located) for settings, located in jobs]


class History:
    """The speeds, checkpoints and data sizes in the records below one `paths.outputs`."""

    def __init__(self, records: Sequence[Stored]) -> None:
        self._speeds: defaultdict[str, list[Speed]] = defaultdict(list)  # by kind
        self._metrics: defaultdict[str, list[float]] = defaultdict(list)  # seconds an image, by `_judged`
        self._checkpoints: defaultdict[str, list[int]] = defaultdict(list)  # steps, by path of parameters
        self._splits: dict[str, Any] = {}  # numbers of images, by the data set's `_target_`
        processor = hardware.processor()
        for directory, record in records:
            if record.identity_version == VERSION:
                with left_out(directory.folder):
                    self._add(directory, record, processor)

    def _add(self, directory: RunDirectory, record: Record, processor: str) -> None:
        config = directory.settings_of(record)
        if sizes := _sizes(record.data.get("splits")):
            self._splits[config["data"]["_target_"]] = sizes
        its_path = _path(record.train_identity, record.training_code, record.mixed)
        self._checkpoints[its_path] += directory.checkpoints()
        # An earlier record with eval.metrics does not say what these took.
        tells = not config["eval"].get("metrics") or "speed/metrics_seconds" in record.metrics
        if tells and record.status == "FINISHED" and record.provenance["processor"] == processor:
            kind = _kind(config, record.steps, record.device)
            speed = _speed(config, record)
            self._speeds[kind].append(speed)
            self._metrics[_judged(kind, config)].append(speed.image)

    def left(self, settings: Settings, located: LocatedRun) -> Estimate:
        """The time that a job has left."""
        config = settings.model_dump(by_alias=True)
        splits = self._splits.get(config["data"]["_target_"])
        if located.dataset is not None:
            splits = {name: len(getattr(located.dataset, name)) for name in SPLITS}
        if splits is None:
            return Estimate(None)
        ends = _stage_ends(settings, splits["train"])
        reached = self._checkpoints[
            _path(located.identity.train, training_code(located.code), list(located.inherited))
        ]
        reached = [step for step in [*reached, *located.directory.checkpoints()] if step <= ends[-1]]
        first = max(reached, default=0)
        kind = _kind(config, ends[-1], _device(settings.device))
        speeds, metrics = self._speeds[kind], self._metrics[_judged(kind, config)]
        if not speeds or not metrics:
            return Estimate(None, first)
        is_semi_implicit = speeds[0].is_semi_implicit
        semi_implicit = VALIDATION.without_density
        validation = VALIDATION.with_density.num_samples
        if is_semi_implicit:
            validation = semi_implicit.num_samples * semi_implicit.num_noises
        scored = min(settings.eval.images or splits["test"], splits["test"])
        draws = scored * (1 + len(settings.eval.also)) * _draws(config["eval"], is_semi_implicit)
        draws += _validations(settings, splits, first, ends) * splits["valid"] * validation
        seconds = (ends[-1] - first) * median(speed.step for speed in speeds) + scored * median(metrics)
        return Estimate(seconds + draws * median(speed.draw for speed in speeds), first)


def _speed(config: Mapping[str, Any], record: Record) -> Speed:
    metrics = record.metrics
    is_semi_implicit = "test/nll_mixture" in metrics
    draws = (
        record.eval_images
        * (1 + len(config["eval"].get("also", ())))
        * _draws(config["eval"], is_semi_implicit)
    )
    own = metrics.get("speed/metrics_seconds", 0.0)
    step, draw = metrics["speed/train_seconds"] / record.steps, (metrics["speed/eval_seconds"] - own) / draws
    if not (math.isfinite(step) and math.isfinite(draw) and math.isfinite(own)):
        raise ValueError("its speed is not finite")
    return Speed(step, draw, own / record.eval_images, is_semi_implicit)


def _draws(scoring: Mapping[str, Any], is_semi_implicit: bool) -> int:
    """The draws of one image, by the `eval` settings."""
    sizes = scoring["semi_implicit"]
    return int(sizes["samples"] * sizes["noises"] if is_semi_implicit else scoring["samples"])


def _stage_ends(settings: Settings, images: int) -> list[int]:
    """The steps at which a run validates; the last of them is its end."""
    trainer = settings.trainer
    steps_per_pass = images // trainer.batch_size
    rates = trainer.learning_rate, trainer.decay, trainer.decay_every
    schedule = training.schedule(trainer.stages, trainer.steps, *rates, steps_per_pass)
    return [segment.last_step for segment in schedule]


def _validations(settings: Settings, splits: Mapping[str, int], first: int, ends: Sequence[int]) -> int:
    """How often a run is validated after the step `first`: at the ends of its stages, and after multiples of passes."""
    steps = {end for end in ends if end > first}
    if every := interval(settings, splits["train"], splits["valid"], ends[-1]):
        steps |= {*range((first // every + 1) * every, ends[-1] + 1, every)}
    return len(steps)


def _sizes(splits: object) -> dict[str, int] | None:
    """The numbers of images, where they are there: a user's own data set may describe its splits in other words."""
    if not isinstance(splits, Mapping) or not all(type(splits.get(name)) is int for name in SPLITS):
        return None
    return {name: splits[name] for name in SPLITS}


def _path(train_identity: str, code: Mapping[str, str], mixed: Sequence[str]) -> str:
    """Equal for records whose checkpoints are on one path of parameters."""
    return repr([train_identity, sorted(code.items()), mixed])


def _kind(config: Mapping[str, Any], steps: int, device: str) -> str:
    """Equal for runs that cost the same on one processor. With compile=auto only long runs are compiled."""
    trainer, compiled = config["trainer"], config["compile"]
    if compiled == "auto":
        compiled = execution.pays(steps, config["k"] * trainer["batch_size"])
    data = {key: value for key, value in config["data"].items() if key != "folder"}
    costly = [config["k"], config["model"], config["objective"], config["eval"]["rows"]]
    costly += [trainer[key] for key in ("batch_size", "optimizer", "reduction")]
    return repr([device, compiled, config["precision"], data, *costly])


def _judged(kind: str, config: Mapping[str, Any]) -> str:
    """Equal for runs of one kind with the same eval.metrics."""
    return repr([kind, config["eval"].get("metrics") or {}])


def _device(setting: str) -> str:
    """The device that a job gets here, as records name it."""
    if setting != "cpu" and torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return "cpu" if setting != "cuda" else "no CUDA device"
