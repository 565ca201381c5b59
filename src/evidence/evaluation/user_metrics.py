"""Test metrics of `eval.metrics`, computed beside the log evidence.

Most are functions of a batch of images and its log-weights. One that needs all images or the objective has `of_all`.
"""

import contextlib
import re
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Set
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from evidence.errors import UserError, is_failure
from evidence.evaluation.metrics import Noise
from evidence.evaluation.scoring import METRICS, Evaluator, Keep, in_eval
from evidence.models import LatentVariableModel
from evidence.modules import unchanged
from evidence.objectives import Objective
from evidence.streams import Stream, drawing, forked_rng, open_stream, samples

# model, images x [B, X] and log-weights [S, B] give numbers [B] by name.
BatchMetric = Callable[[LatentVariableModel, Tensor, Tensor], Mapping[str, Tensor]]


@runtime_checkable
class WholeMetric(Protocol):
    """A metric of all images together."""

    def of_all(
        self, model: LatentVariableModel, objective: Objective, images: Tensor
    ) -> Mapping[str, Tensor]:
        """Of images [N, X]: numbers [N] by name. The objective is the run's, and must be left as it is."""


Metric = BatchMetric | WholeMetric
NAME = re.compile(r"[\w\-. ]{1,100}")
RESERVED = re.compile(r"nll_se|active_units(_\d+)?")  # what `evaluate` adds to the scores


class WithMetrics(NamedTuple):
    """The scores of `evaluator`, and those of the user's metrics by their key in `eval.metrics`.

    spent: the seconds that each metric has taken so far, by its key.
    """

    evaluator: Evaluator
    metrics: Mapping[str, Metric]
    spent: defaultdict[str, float]

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
        return WithMetrics(self.evaluator.fewer(num_samples), metrics, defaultdict(float))

    def scores(self, model: LatentVariableModel, x: Tensor, keep: Keep | None = None) -> dict[str, Tensor]:
        """Each score of each image x [B, X]: [B] by name. Raises: UserError that names a faulty metric."""
        heard: list[dict[str, Tensor]] = []

        def listen(log_weights: dict[str, Tensor]) -> None:
            heard.append(log_weights)
            if keep is not None:
                keep(log_weights)

        scores = self.evaluator.scores(model, x, listen)
        log_weights = next(iter(heard[0].values()))  # of a semi-implicit posterior: those of nll
        said = f"(model, x {list(x.shape)}, log_weights {list(log_weights.shape)})"
        for key, metric in self.metrics.items():
            if not isinstance(metric, WholeMetric):
                found = self._called(key, said, metric, model, x.clone(), log_weights.clone())
                scores |= _checked(f"eval.metrics.{key}", found, x, scores.keys())
        return scores

    def of_all(
        self, model: LatentVariableModel, objective: Objective, images: Tensor, taken: Set[str]
    ) -> dict[str, Tensor]:
        """The numbers [N] of the metrics of all images [N, X], by names that are not `taken`.

        Raises: UserError that names a faulty one.
        """
        scores: dict[str, Tensor] = {}
        said = f"(model, objective, images {list(images.shape)})"
        for key, metric in self.metrics.items():
            if isinstance(metric, WholeMetric):
                found = self._called(key, said, metric.of_all, model, objective, images.clone())
                scores |= _checked(f"eval.metrics.{key}", found, images, scores.keys() | taken)
        return scores

    def _called(self, key: str, said: str, function: Callable[..., object], *given: Any) -> object:
        samples(0, METRICS)
        began = time.monotonic()
        try:
            with contextlib.ExitStack() as stack:
                stack.enter_context(_own_numbers(given[-1].device))
                for module in filter(lambda each: isinstance(each, nn.Module), given):
                    stack.enter_context(unchanged(module))  # whatever it does with the model
                return function(*given)
        except UserError as error:
            raise UserError(f"eval.metrics.{key}: {error}") from error
        except BaseException as error:
            if not is_failure(error):
                raise
            raise UserError(
                f"eval.metrics.{key}: called with {said}, it raised {type(error).__name__}:"
                f" {' '.join(str(error).split())}"
            ) from error
        finally:
            self.spent[key] += time.monotonic() - began


def _own_numbers(device: torch.device) -> contextlib.AbstractContextManager[None]:
    """What a metric draws by torch.randn or NumPy depends on the seed and the first image, and on no other metric."""
    stream = open_stream()
    if stream is None:
        return contextlib.nullcontext()
    first = 0 if stream.images is None else int(stream.images[0])
    return forked_rng(device, int(stream.seed), stream.purpose, first, METRICS)


@in_eval
def measure_whole(
    model: LatentVariableModel,
    objective: Objective,
    images: Tensor,
    evaluator: Evaluator,
    noise: Noise,
    taken: Set[str],
) -> dict[str, float]:
    """The means of the metrics of all images [N, X] together, by names that are not `taken`.

    Raises: UserError that names a faulty metric.
    """
    if not isinstance(evaluator, WithMetrics):
        return {}
    x = images.to(torch.get_default_dtype())
    stream = Stream(noise.seed, noise.purpose, images=noise.images.to(x.device))
    with forked_rng(x.device, noise.seed, noise.purpose), drawing(stream):
        found = evaluator.of_all(model, objective, x, taken)
    return {name: float(values.mean()) for name, values in found.items()}


def _checked(key: str, found: object, x: Tensor, taken: Set[str]) -> dict[str, Tensor]:
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
