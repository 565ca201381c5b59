"""The encoder's gradient under each objective on one image: its mean, its variance, and its signal-to-noise ratio.

From R independent draws g_r of the gradient of the surrogate, over the encoder's parameters j and with the rest fixed:

  signal     |E g|^2, without bias |mean g|^2 - variance / R, which may be negative where E g = 0
  variance   sum_j Var g_j
  snr        the median over j of |mean g_j| / sd g_j (Rainforth et al. 2018, Section 3); where E g = 0 it is about
             FLOOR / sqrt(R), the median of |N(0, 1)| / sqrt(R), and up to 1 / sqrt(R) where one draw has all the weight

Parameters whose gradient is zero in every draw, such as the weights of black pixels, are left out of the median.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from evidence.models import LatentVariableModel
from evidence.objectives import ELBO, IWAE, CriticWeighted, Objective

FLOOR = 0.6745  # the median of |N(0, 1)|
BOUND = 0.5  # of the trained runs


class Moments(NamedTuple):
    """Of the gradient, from R draws."""

    signal: float
    variance: float
    snr: float
    num_draws: int


class Baselines(NamedTuple):
    """What a critic without a bound learns for an image x [1, X], each [1]: log p(x) = log E w, and E log w."""

    evidence: Tensor
    elbo: Tensor


class Constant(nn.Module):
    """A critic that says the same of every image."""

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.register_buffer("value", value)

    def forward(self, x: Tensor) -> Tensor:
        """C(x), [1]."""
        return self.get_buffer("value")


class FixedCritic(CriticWeighted):
    """The critic-weighted objective past its warm-up, with a given C(x) that does not learn: b = 0 and s = 1."""

    MOMENTUM = 1.0

    def __init__(self, k: int, encoder: str, bound: float | None, value: Tensor) -> None:
        super().__init__(k, encoder, "elbo", bound, 0, Constant(value))  # type: ignore[arg-type]
        self.num_steps.fill_(1)


FORMS: dict[str, Callable[[int, Baselines], Objective]] = {
    "VAE, and encoder=elbo": lambda k, c: ELBO(k),
    "IWAE": lambda k, c: IWAE(k),
    "literal, unbounded": lambda k, c: FixedCritic(k, "literal", None, c.evidence),
    "literal, C = E log w": lambda k, c: FixedCritic(k, "literal", BOUND, c.elbo),
    "path, unbounded": lambda k, c: FixedCritic(k, "path", None, c.evidence),
    "path, C = log E w": lambda k, c: FixedCritic(k, "path", BOUND, c.evidence),
    "path, C = E log w": lambda k, c: FixedCritic(k, "path", BOUND, c.elbo),
}


def encoder_moments(objective: Objective, model: LatentVariableModel, x: Tensor, num_draws: int) -> Moments:
    """Of the encoder's gradient on the images x [B, X], summed over them."""
    parameters = list(model.posterior.parameters())

    def draw() -> Tensor:
        surrogate = objective(model, x).surrogate.sum()
        return torch.cat([part.flatten() for part in torch.autograd.grad(surrogate, parameters)])

    return moments(draw, num_draws)


def moments(draw: Callable[[], Tensor], num_draws: int) -> Moments:
    """Of a random vector; `draw` is called so often and gives independent draws [J]. Welford's sums, in float64."""
    mean = draw().double().clone()
    squares = torch.zeros_like(mean)
    for count in range(2, num_draws + 1):
        deviation = draw().double() - mean
        mean += deviation / count
        squares += deviation.square() * ((count - 1) / count)
    variances = squares / (num_draws - 1)
    moving = variances > 0
    total = variances.sum()
    return Moments(
        signal=(mean.square().sum() - total / num_draws).item(),
        variance=total.item(),
        snr=(mean[moving].abs() / variances[moving].sqrt()).median().item(),
        num_draws=num_draws,
    )
