"""Test metrics of the user's own (`eval.metrics`), computed beside the log evidence from the same log-weights."""

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from evidence.errors import UserError
from evidence.evaluation.scoring import METRICS, Evaluator, Keep
from evidence.models import LatentVariableModel
from evidence.numerics import forked_rng
from evidence.streams import samples

# model, images x [B, X] and log-weights [S, B] give numbers [B] by name.
Metric = Callable[[LatentVariableModel, Tensor, Tensor], Mapping[str, Tensor]]
NAME = re.compile(r"[\w\-. ]{1,100}")
RESERVED = re.compile(r"nll_se|active_units(_\d+)?")  # what `evaluate` adds to the scores


class WithMetrics(NamedTuple):
    """The scores of `evaluator`, and those of the user's metrics by their key in `eval.metrics`."""

    evaluator: Evaluator
    metrics: Mapping[str, Metric]

    @property
    def num_samples(self) -> int:
        """S, for each image."""
        return self.evaluator.num_samples

    def fewer(self, num_samples: int) -> "WithMetrics":
        """The same with so few samples, and with metrics that take less time where they have a method `shorter`."""
        metrics = {
            key: getattr(metric, "shorter", lambda metric=metric: metric)()
            for key, metric in self.metrics.items()
        }
        return WithMetrics(self.evaluator.fewer(num_samples), metrics)

    def scores(self, model: LatentVariableModel, x: Tensor, keep: Keep | None = None) -> dict[str, Tensor]:
        """Each score of each image x [B, X]: [B] by name. Raises: UserError that names a faulty metric."""
        heard: list[dict[str, Tensor]] = []

        def listen(log_weights: dict[str, Tensor]) -> None:
            heard.append(log_weights)
            if keep is not None:
                keep(log_weights)

        scores = self.evaluator.scores(model, x, listen)
        log_weights = next(iter(heard[0].values()))  # of a semi-implicit posterior: those of nll
        for key, metric in self.metrics.items():
            scores |= _checked(f"eval.metrics.{key}", _called(key, metric, model, x, log_weights), x, scores)
        return scores


def _called(key: str, metric: Metric, model: LatentVariableModel, x: Tensor, log_weights: Tensor) -> object:
    samples(0, METRICS)
    try:
        with forked_rng(x.device, METRICS):
            return metric(model, x.clone(), log_weights.clone())
    except Exception as error:
        raise UserError(
            f"eval.metrics.{key}: called with (model, x {list(x.shape)}, log_weights {list(log_weights.shape)}),"
            f" it raised {type(error).__name__}: {' '.join(str(error).split())}"
        ) from error


def _checked(key: str, found: object, x: Tensor, taken: Mapping[str, Tensor]) -> dict[str, Tensor]:
    if not isinstance(found, Mapping) or not found:
        raise UserError(
            f"{key}: returned a {type(found).__name__}; it must return a dict of tensors [B] by name"
        )
    for name, values in found.items():
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise UserError(f"{key}: the name {name!r} must be of letters, digits and _ - . or spaces")
        if name in taken or RESERVED.fullmatch(name):
            raise UserError(f"{key}: another metric has the name {name}: rename it")
        is_real = isinstance(values, Tensor) and not values.is_complex()
        if not is_real or list(values.shape) != [len(x)]:
            shown = f"a tensor {list(values.shape)}" if is_real else f"a {type(values).__name__}"
            raise UserError(f"{key}: {name} is {shown}; it must be a real tensor [B] = [{len(x)}]")
        if not torch.isfinite(values).all():
            raise UserError(f"{key}: {name} is not finite")
    return {name: values.detach().double() for name, values in found.items()}
