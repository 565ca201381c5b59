"""How a model is scored: in eval mode, without graphs, in pieces of bounded size."""

from collections.abc import Callable, Iterator
from functools import wraps
from typing import Concatenate, NamedTuple, ParamSpec, Protocol, Self, TypeVar

import torch
from torch import Tensor

from evidence.models import LatentVariableModel
from evidence.modules import scoring

Given = ParamSpec("Given")
Found = TypeVar("Found")
# What random numbers are for, in a stream of images.
IMPORTANCE, MIXTURE, GENERATING, CONDITIONAL, GAUSSIAN, MEANS_A, MEANS_B, METRICS = range(8)
ANNEALED_STARTS, ANNEALED_MOMENTA, ANNEALED_CHANCES, SIMULATED = range(8, 12)
DRAWS, DRAWS_GIVEN, COMPONENTS, COMPONENTS_GIVEN = range(12, 16)
Keep = Callable[[dict[str, Tensor]], object]  # is given log-weights of a batch by name, [S, B]


class Sizes(NamedTuple):
    """What is scored at a time, on a kind of device: it changes no number but those of a user's torch.randn.

    images: of a batch. samples: whose noise is drawn at once. rows: (image, sample) pairs that networks see.
    """

    images: int
    samples: int
    rows: int


# What stays in a CPU's cache; and what keeps a GPU busy, since launching a kernel takes as long as 10,000 rows.
ON_CPU, ON_GPU = Sizes(100, 20, 2_000), Sizes(1_000, 200, 200_000)


def sizes(device: torch.device) -> Sizes:
    """Those of this device."""
    return ON_GPU if device.type == "cuda" else ON_CPU


class Evaluator(Protocol):
    """How the log evidence of images is estimated. ImportanceSampling and SemiImplicitSampling are two."""

    @property
    def num_samples(self) -> int:
        """S, for each image."""

    def fewer(self, num_samples: int) -> Self:
        """The same with so few samples, for a trial."""

    def scores(self, model: LatentVariableModel, x: Tensor, keep: Keep | None) -> dict[str, Tensor]:
        """Of each image x [B, X] of a batch: [B] by name, nll among them; `keep` is called with log-weights."""


def in_eval(
    function: Callable[Concatenate[LatentVariableModel, Given], Found],
) -> Callable[Concatenate[LatentVariableModel, Given], Found]:
    """`function` without graphs, its model in eval mode and afterwards as it was: whoever scores, dropout is off."""

    @wraps(function)
    def scored(model: LatentVariableModel, /, *args: Given.args, **kwargs: Given.kwargs) -> Found:
        with torch.no_grad(), scoring(model):
            return function(model, *args, **kwargs)

    return scored


def blocks(total: int, size: int) -> Iterator[tuple[int, int]]:
    """The first of each block of `total`, and how many it has, at most `size`."""
    for first in range(0, total, size):
        yield first, min(size, total - first)
