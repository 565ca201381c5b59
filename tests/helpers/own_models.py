"""Modules as users write them, around the exact models of problems.py, and the trial of a model and an objective."""

import random
from collections.abc import Callable

import problems
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evidence.evaluation import Evaluator, ImportanceSampling, SemiImplicitSampling
from evidence.models import LatentVariableModel
from evidence.trial import first_step

BATCH = 20


class Before(nn.Module):
    """A layer before another module, which sees rows: `layer` may take no more than two dimensions."""

    def __init__(self, layer: nn.Module, then: nn.Module) -> None:
        super().__init__()
        self.layer, self.then = layer, then

    def forward(self, values: Tensor) -> object:
        return self.then(self.layer(values.flatten(0, -2)).view_as(values))


class AlwaysDropout(nn.Module):
    """The fault of leaving out `training=self.training`."""

    def forward(self, values: Tensor) -> Tensor:
        return F.dropout(values, 0.4)


class OwnGenerator(nn.Module):
    """Multiplies by random numbers that torch's global generator knows nothing of."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(3)

    def forward(self, values: Tensor) -> Tensor:
        return values * (1 + torch.rand(values.shape, generator=self.generator)) if self.training else values


class PythonRandom(nn.Module):
    """The same with Python's."""

    def forward(self, values: Tensor) -> Tensor:
        return values * (1 + random.random()) if self.training else values


class Counting(nn.Module):
    """Counts its calls in a buffer, and uses the number."""

    calls: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.tensor(0.0), persistent=False)

    def forward(self, values: Tensor) -> Tensor:
        if self.training:
            self.calls += 1
        return values / self.calls.clamp(min=1)


class SetAtFirst(nn.Module):
    """Takes its offset from the first rows that it sees."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("offset", torch.full((dim,), torch.nan))

    def forward(self, values: Tensor) -> Tensor:
        if self.offset.isnan().any():
            self.offset.copy_(values.detach().mean(0))
        return values - self.offset


class MadeAtFirst(nn.Module):
    """Makes a buffer when it first sees rows, so that no new object has room for it."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("zeros", None)

    def forward(self, values: Tensor) -> Tensor:
        if self.zeros is None:
            self.zeros = torch.zeros_like(values)
        return values


class MeanOfRows(nn.Module):
    """Adds the mean over the rows, in either mode, and has no state."""

    def forward(self, values: Tensor) -> Tensor:
        return values + (values.mean(0) if self.training else 0)


class Scaled(nn.Module):
    """A factor that begins at zero, behind which nothing shows."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer, self.factor = layer, nn.Parameter(torch.tensor(0.0))

    def forward(self, values: Tensor) -> Tensor:
        return values + self.factor * self.layer(values)


LAYERS: dict[str, Callable[[int], nn.Module]] = {
    "dropout": lambda dim: nn.Dropout(0.4),
    "batch norm": lambda dim: nn.BatchNorm1d(dim),
    "batch norm, no statistics": lambda dim: nn.BatchNorm1d(dim, track_running_stats=False),
    "own generator": lambda dim: OwnGenerator(),
    "Python's random": lambda dim: PythonRandom(),
    "always dropout": lambda dim: AlwaysDropout(),
    "a count": lambda dim: Counting(),
    "mean of rows": lambda dim: MeanOfRows(),
    "hidden dropout": lambda dim: Scaled(nn.Dropout(0.4)),
    "hidden mean": lambda dim: Scaled(MeanOfRows()),
    "set at first": lambda dim: SetAtFirst(dim),
    "made at first": lambda dim: MadeAtFirst(),
    "layer norm": lambda dim: nn.LayerNorm(dim),
    "eval batch norm": lambda dim: nn.BatchNorm1d(dim).eval(),
}


def with_layer(model: LatentVariableModel, where: str, layer: str) -> LatentVariableModel:
    """The model with a layer before its likelihood or its posterior."""
    inner = getattr(model, where)
    dim = problems.Z_DIM if where == "likelihood" else problems.X_DIM
    setattr(model, where, Before(LAYERS[layer](dim), inner))
    return model


def tried(model: object, objective: object, batch_size: int = BATCH) -> list[str]:
    """What the trial finds unsaved."""
    parameter = next(model.parameters())  # type: ignore[attr-defined]
    images = (problems.images(first_step.SCORED) > 0).byte().to(parameter.device)
    evaluator: Evaluator = ImportanceSampling(50, 200)
    if type(objective).__name__ in ("UIVI", "SIVI"):
        evaluator = SemiImplicitSampling(50, 5, 200)
    x = problems.images(first_step.IMAGES).to(parameter)
    return first_step.check(model, objective, x, images, evaluator, batch_size).unsaved  # type: ignore[arg-type]
