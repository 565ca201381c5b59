"""The two-dimensional densities that UIVI is shown on, normalised, and the model that has one for its posterior.

banana       (z_1, z_2 + z_1^2 + 1) ~ N(0, [[1, .9], [.9, 1]])
multimodal   1/2 N([-2, 0], I) + 1/2 N([2, 0], I)
x_shaped     1/2 N(0, [[2, 1.8], [1.8, 2]]) + 1/2 N(0, [[2, -1.8], [-1.8, 2]])

(Titsias and Ruiz 2019, Table 1). There is no data: the target is the prior, and the likelihood of nothing is one.
"""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from evidence.models import LatentVariableModel
from evidence.networks import SemiImplicitPosterior

DIM = 2  # of z
NOISE_DIM, HIDDEN, SCALE, SCALE_FLOOR = 3, [50, 50], 0.5, 1e-5  # of q, in the authors' code


class Density(Protocol):
    """Something to fit."""

    def log_prob(self, z: Tensor) -> Tensor:
        """log p(z), z [..., 2] -> [...]."""


class Banana(NamedTuple):
    """The density of z where (z_1, z_2 + z_1^2 + 1) has the density `straight`; the map keeps volumes."""

    straight: Density

    def log_prob(self, z: Tensor) -> Tensor:
        """log p(z), z [..., 2] -> [...]."""
        first, second = z.unbind(-1)
        return self.straight.log_prob(torch.stack([first, second + first.square() + 1], -1))


def targets(dtype: torch.dtype = torch.float32) -> dict[str, Density]:
    """The three by name."""

    def equal_mixture(means: list[list[float]], covariances: list[list[list[float]]]) -> Density:
        normals = MultivariateNormal(torch.tensor(means, dtype=dtype), torch.tensor(covariances, dtype=dtype))
        weights = Categorical(torch.ones(len(means), dtype=dtype))
        return MixtureSameFamily(weights, normals, validate_args=False)

    eye, origin = [[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0]
    return {
        "banana": Banana(equal_mixture([origin], [[[1.0, 0.9], [0.9, 1.0]]])),
        "multimodal": equal_mixture([[-2.0, 0.0], [2.0, 0.0]], [eye, eye]),
        "x_shaped": equal_mixture([origin, origin], [[[2.0, 1.8], [1.8, 2.0]], [[2.0, -1.8], [-1.8, 2.0]]]),
    }


class Target(nn.Module):
    """p(z), in the place of a prior."""

    def __init__(self, density: Density) -> None:
        super().__init__()
        self.density = density

    def forward(self) -> Density:
        """The distribution of z [2]."""
        return self.density


class Nothing(NamedTuple):
    """The distribution of x [B, 0] given z [K, B, 2]."""

    z: Tensor

    def log_prob(self, x: Tensor) -> Tensor:
        """Zero for each z: [K, B]."""
        return self.z.new_zeros(self.z.shape[:-1])


class NoLikelihood(nn.Module):
    """p(x | z) of data without pixels."""

    def forward(self, z: Tensor) -> Nothing:
        """The distribution given z [..., 2]."""
        return Nothing(z)


def toy(density: Density) -> LatentVariableModel:
    """The target with the semi-implicit q(z) of the authors' code: three noises, two layers of 50 rectified units."""
    posterior = SemiImplicitPosterior(0, NOISE_DIM, HIDDEN, DIM, "relu", SCALE, SCALE_FLOOR)
    return LatentVariableModel(Target(density), NoLikelihood(), posterior, [DIM])
