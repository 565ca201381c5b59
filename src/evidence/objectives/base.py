"""What an objective is: a module that sees a model and a batch x [B, X] and returns an `Estimate`.

Only the surrogate's gradient means something; only the metrics' values do. A metric is called `elbo` only where it is
a lower bound on log p(x) in expectation that is the ELBO itself. All are in nats per image.
"""

import abc
from typing import ClassVar, NamedTuple, Protocol

from torch import Tensor, nn

from evidence.models import LatentVariableModel


class Estimate(NamedTuple):
    """surrogate [B]: ascend its gradient; metrics: detached scalars, the one to watch first."""

    surrogate: Tensor
    metrics: dict[str, Tensor]


class CompiledPart(Protocol):
    """What computes its own part of a step as one compiled graph, where it is told to."""

    is_compiled: bool


class Objective(nn.Module, abc.ABC):
    """A training signal. A module, because some carry parameters (a critic) or adapted state (a step size).

    `is_compilable` where torch.compile takes all of it as one graph. Where `passes_twice`, the model computes again
    what it has computed, so it must be a function of the noise it is given. `single_pass` is the setting without
    this, if there is one, such as objective.num_exact=null. State is a buffer that is written in place, so that a
    captured step sees it.
    """

    is_compilable: ClassVar[bool] = False
    single_pass: ClassVar[str] = ""

    @property
    def passes_twice(self) -> bool:
        """Whether a step needs the same value of the model from two forward passes."""
        return False

    @property
    def compiled_part(self) -> CompiledPart | None:
        """What is compiled of a step that is not compilable as a whole; None where nothing is."""
        return None

    @abc.abstractmethod
    def forward(self, model: LatentVariableModel, x: Tensor) -> Estimate:
        """The estimate on one batch x [B, X] of binary pixels."""
