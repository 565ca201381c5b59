"""How long the jobs that are left take, by the speed of finished runs.

Runs of one kind cost the same. A run's kind is its processor, its device and its settings, without those that cost no
time, such as the seed and the learning rate. A draw is one sample of one image that is scored. A kind's seconds a
step and seconds a draw are medians over its finished records, whatever their number of threads.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch

from evidence import training
from evidence.config.settings import Settings
from evidence.evaluation import VALIDATION
from evidence.records.directory import RunDirectory
from evidence.records.identity import VERSION
from evidence.runs import hardware, runtime
from evidence.runs.resume import Place


class Estimate(NamedTuple):
    """Seconds that a job has left, None where no run of its kind has finished; the step that it goes on from."""

    seconds: float | None
    first_step: int = 0


class Speed(NamedTuple):
    """Seconds a step, seconds a draw, and whether a draw is also one noise of a semi-implicit posterior."""

    step: float
    draw: float
    is_semi_implicit: bool


class History(NamedTuple):
    """What the records below one `paths.outputs` say.

    speeds: by kind. steps: of the checkpoints, by the path of parameters that they lie on. splits: the numbers of
    images in train, valid and test, by the `_target_` of the data set.
    """

    speeds: Mapping[str, Speed]
    steps: Mapping[str, Sequence[int]]
    splits: Mapping[str, Mapping[str, int]]


def estimate(jobs: Iterable[tuple[Settings, Place]]) -> list[Estimate]:
    """What is left of each job. Each record is read once."""
    history = cache(_history)
    return [_left(settings, place, history(place.directory.folder.parent)) for settings, place in jobs]


def _history(outputs: Path) -> History:
    processor = hardware.processor()
    finished: defaultdict[str, list[Speed]] = defaultdict(list)
    steps: defaultdict[str, list[int]] = defaultdict(list)
    splits = {}
    for path in outputs.glob("*/result.json"):
        directory = RunDirectory(path.parent)
        result = directory.result
        if result.get("identity_version") != VERSION or not directory.config.exists():
            continue
        config = directory.settings
        splits[config["data"]["_target_"]] = result["data"].get("splits", {})
        steps[_path(result["train_identity"], result.get("code"), result["mixed"])] += directory.checkpoints()
        if result["status"] == "FINISHED" and result["provenance"]["processor"] == processor:
            finished[_kind(config, result["steps"], result["device"])].append(_speed(config, result))
    return History({kind: _median(speeds) for kind, speeds in finished.items()}, steps, splits)


def _speed(config: Mapping[str, Any], result: Mapping[str, Any]) -> Speed:
    """Of one finished run."""
    metrics = result["metrics"]
    is_semi_implicit = "test/nll_mixture" in metrics
    draws = result["eval_images"] * _draws(config["eval"], is_semi_implicit)
    step, draw = metrics["speed/train_seconds"] / result["steps"], metrics["speed/eval_seconds"] / draws
    return Speed(step, draw, is_semi_implicit)


def _median(speeds: Sequence[Speed]) -> Speed:
    steps, draws, is_semi_implicit = zip(*speeds, strict=True)
    return Speed(median(steps), median(draws), is_semi_implicit[0])


def _left(settings: Settings, place: Place, history: History) -> Estimate:
    config, trainer = settings.model_dump(by_alias=True), settings.trainer
    splits = history.splits.get(config["data"]["_target_"])
    if place.dataset is not None:
        splits = {name: len(getattr(place.dataset, name)) for name in ("train", "valid", "test")}
    if splits is None:
        return Estimate(None)  # of no run of this data set is there a record
    schedule = training.schedule(
        trainer.stages,
        trainer.steps,
        trainer.learning_rate,
        trainer.decay,
        trainer.decay_every,
        splits["train"] // trainer.batch_size,
    )
    ends = [segment.last_step for segment in schedule]
    reached = history.steps.get(_path(place.identity.train, place.code, list(place.inherited)), [])
    first = max((step for step in [*reached, *place.directory.checkpoints()] if step <= ends[-1]), default=0)
    speed = history.speeds.get(_kind(config, ends[-1], _device(settings.device)))
    if speed is None:
        return Estimate(None, first)
    validation = VALIDATION.num_samples * (VALIDATION.num_noises if speed.is_semi_implicit else 1)
    draws = sum(end > first for end in ends) * splits["valid"] * validation
    scored = min(settings.eval.images or splits["test"], splits["test"])
    draws += scored * _draws(config["eval"], speed.is_semi_implicit)
    return Estimate((ends[-1] - first) * speed.step + draws * speed.draw, first)


def _draws(scoring: Mapping[str, Any], is_semi_implicit: bool) -> int:
    """Of one image, by the `eval` settings."""
    if is_semi_implicit:
        return int(scoring["semi_implicit"]["samples"] * scoring["semi_implicit"]["noises"])
    return int(scoring["samples"])


def _path(train_identity: str, code: Mapping[str, str] | None, mixed: Sequence[str]) -> str:
    """Equal for records whose checkpoints lie on one path of parameters."""
    return repr([train_identity, sorted((code or {}).items()), mixed])


def _kind(config: Mapping[str, Any], steps: int, device: str) -> str:
    """Equal for runs that cost the same on one processor. Compiling pays in a long run only."""
    trainer, compiled = config["trainer"], config["compile"]
    if compiled == "auto":
        compiled = device == "cpu" and runtime.pays(steps, config["k"] * trainer["batch_size"])
    data = {key: value for key, value in config["data"].items() if key != "folder"}
    costly = [config["k"], config["model"], config["objective"], config["eval"]["rows"]]
    costly += [trainer[key] for key in ("batch_size", "optimizer", "reduction")]
    return repr([device, compiled, data, *costly])


def _device(setting: str) -> str:
    """The device that a job gets here, as records name it."""
    if setting != "cpu" and torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return "cpu" if setting != "cuda" else "no CUDA device"
