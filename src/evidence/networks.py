"""Neural networks whose forward pass returns a distribution.

Weights start by Glorot's rule and biases at zero, as in both papers' code (Glorot and Bengio 2010).
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evidence import products
from evidence.distributions import Bernoulli, Chain, DiagonalNormal, SemiImplicit
from evidence.numerics import tanh


class Tanh(nn.Tanh):
    """tanh by numerics.tanh."""

    def forward(self, x: Tensor) -> Tensor:
        """tanh x, element by element."""
        return tanh(x)


ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": Tanh, "relu": nn.ReLU}
# Their derivatives as functions of their outputs.
SLOPES: dict[str, Callable[[Tensor], Tensor]] = {"tanh": lambda h: 1 - h * h, "relu": torch.sign}


class Linear(nn.Linear):
    """An affine map by products.linear."""

    def forward(self, x: Tensor) -> Tensor:
        """x [..., in] -> [..., out]."""
        return products.linear(x, self.weight, self.bias)


def linear(in_dim: int, out_dim: int) -> Linear:
    """An affine map with Glorot-uniform weights and zero bias."""
    layer = Linear(in_dim, out_dim)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def trunk(in_dim: int, hidden: Sequence[int], activation: str) -> nn.Sequential:
    """Hidden layers, each followed by the activation; empty `hidden` gives the identity."""
    layers: list[nn.Module] = []
    for below, above in pairwise([in_dim, *hidden]):
        layers += [linear(below, above), ACTIVATIONS[activation]()]
    return nn.Sequential(*layers)


def multilayer_perceptron(in_dim: int, hidden: Sequence[int], out_dim: int, activation: str) -> nn.Sequential:
    """Hidden layers and a linear output."""
    return nn.Sequential(trunk(in_dim, hidden, activation), linear([in_dim, *hidden][-1], out_dim))


class StandardNormalPrior(nn.Module):
    """p(z) = N(0, I)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim), persistent=False)
        self.register_buffer("scale", torch.ones(dim), persistent=False)

    def forward(self) -> DiagonalNormal:
        """The distribution of z [D]."""
        return DiagonalNormal(self.get_buffer("mean"), self.get_buffer("scale"))


class ConditionalNormal(nn.Module):
    """N(mean(y), exp(s(y))^2) with mean and s linear maps of one shared trunk (Burda et al. 2015, Section 5)."""

    def __init__(self, in_dim: int, hidden: Sequence[int], out_dim: int, activation: str) -> None:
        super().__init__()
        self.trunk = trunk(in_dim, hidden, activation)
        self.mean = linear([in_dim, *hidden][-1], out_dim)
        self.log_scale = linear([in_dim, *hidden][-1], out_dim)

    def forward(self, y: Tensor) -> DiagonalNormal:
        """The distribution given y [..., in_dim]."""
        h = self.trunk(y)
        return DiagonalNormal(self.mean(h), self.log_scale(h).exp())


class TwoNetworkNormal(nn.Module):
    """N(mean(x), softplus(s(x))^2) with a network each: UIVI's explicit baseline (Titsias and Ruiz 2019, code)."""

    FLOOR = 1e-5  # keeps log scale finite

    def __init__(self, in_dim: int, hidden: Sequence[int], out_dim: int, activation: str) -> None:
        super().__init__()
        self.mean = multilayer_perceptron(in_dim, hidden, out_dim, activation)
        self.raw_scale = multilayer_perceptron(in_dim, hidden, out_dim, activation)

    def forward(self, x: Tensor) -> DiagonalNormal:
        """The distribution given x [..., in_dim]."""
        return DiagonalNormal(self.mean(x), F.softplus(self.raw_scale(x)) + self.FLOOR)


class ChainPosterior(nn.Module):
    """q(h_1 | x) q(h_2 | h_1) ... q(h_L | h_{L-1})."""

    def __init__(self, layers: Sequence[nn.Module], sizes: Sequence[int]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.sizes = list(sizes)

    def forward(self, x: Tensor) -> Chain:
        """The distribution of z = [h_1, ..., h_L] given x [B, X]."""
        first, *transitions = self.layers
        return Chain(first(x), transitions, self.sizes)


class ChainPrior(nn.Module):
    """p(h_L) p(h_{L-1} | h_L) ... p(h_1 | h_2) with p(h_L) = N(0, I); `layers` from the top downwards."""

    def __init__(self, layers: Sequence[nn.Module], sizes: Sequence[int]) -> None:
        super().__init__()
        self.top = StandardNormalPrior(sizes[-1])
        self.layers = nn.ModuleList(layers)
        self.sizes = list(sizes)

    def forward(self) -> Chain:
        """The distribution of z = [h_1, ..., h_L]."""
        return Chain(self.top(), list(self.layers), self.sizes, downwards=True)


class BernoulliDecoder(nn.Module):
    """p(x | z): pixels given the lowest stochastic layer h_1, the first `in_dim` entries of z."""

    def __init__(self, in_dim: int, hidden: Sequence[int], out_dim: int, activation: str) -> None:
        super().__init__()
        self.in_dim = in_dim
        self.logits = multilayer_perceptron(in_dim, hidden, out_dim, activation)

    def start_at(self, mean_pixels: Tensor) -> None:
        """Set the output bias to the logit of the mean pixels [X], clipped to [.001, .999] (Burda et al., code)."""
        output = self.logits[-1]
        assert isinstance(output, nn.Linear)
        with torch.no_grad():
            output.bias.copy_(torch.logit(mean_pixels.clamp(0.001, 0.999)))

    def forward(self, z: Tensor) -> Bernoulli:
        """The distribution of the pixels given z [..., D]."""
        return Bernoulli(self.logits(z[..., : self.in_dim]))


class SemiImplicitPosterior(nn.Module):
    """q(z | x) = E_eps N(z; mean([x, eps]), sigma^2), one sigma for all images (Titsias and Ruiz 2019, Section 4).

    sigma is a free parameter, floored; below the floor its gradient is kept, so that it can come back.
    """

    scale_parameters = ("scale",)  # of a learning rate of their own: training.parameter_groups

    def __init__(
        self,
        data_dim: int,
        noise_dim: int,
        hidden: Sequence[int],
        out_dim: int,
        activation: str,
        scale: float,
        scale_floor: float,
    ) -> None:
        super().__init__()
        self.data_dim, self.noise_dim, self.scale_floor = data_dim, noise_dim, scale_floor
        self.first = linear(data_dim + noise_dim, hidden[0])
        self.activation, self.slope = ACTIVATIONS[activation](), SLOPES[activation]
        self.rest = multilayer_perceptron(hidden[0], hidden[1:], out_dim, activation)
        self.scale = nn.Parameter(torch.full((out_dim,), scale))

    def forward(self, x: Tensor) -> SemiImplicit:
        """The distribution given x [B, X]; the part of the first layer that depends on x is computed once, here."""
        weight_x, weight_eps = self.first.weight.split([self.data_dim, self.noise_dim], dim=1)
        part_x = products.linear(x, weight_x, self.first.bias)
        layers = [(layer.weight, layer.bias) for layer in self.rest.modules() if isinstance(layer, nn.Linear)]
        back_to_eps = weight_eps.T.contiguous()  # laid out so that products with it take half the time

        def pullback(eps: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
            hidden = [self.activation(part_x + products.linear(eps, weight_eps))]
            for weight, bias in layers[:-1]:
                hidden.append(self.activation(products.linear(hidden[-1], weight, bias)))

            def pull(cotangent: Tensor) -> Tensor:
                for (weight, _), h in zip(reversed(layers), reversed(hidden), strict=True):
                    cotangent = products.linear(cotangent, weight.T) * self.slope(h)
                return products.linear(cotangent, back_to_eps)

            return products.linear(hidden[-1], *layers[-1]), pull

        floored = self.scale + (self.scale.clamp(min=self.scale_floor) - self.scale).detach()
        return SemiImplicit(lambda eps: pullback(eps)[0], floored, x.shape[0], self.noise_dim, pullback)


class ReverseProposal(nn.Module):
    """tau(eps | z, x) = N(mean([z, x]), exp(s([z, x]))^2), for UIVI's reverse conditional."""

    def __init__(
        self, latent: int, data_dim: int, noise: int, hidden: Sequence[int], activation: str
    ) -> None:
        super().__init__()
        self.normal = ConditionalNormal(latent + data_dim, hidden, noise, activation)

    def forward(self, z: Tensor, x: Tensor) -> DiagonalNormal:
        """The distribution of eps given z [K, B, D] and x [B, X]."""
        return self.normal(torch.cat([z, x.expand(*z.shape[:-1], -1)], -1))


class Critic(nn.Module):
    """A network x [B, X] -> [B], for the baseline C(x) of the critic-weighted objective."""

    def __init__(self, data_dim: int, hidden: Sequence[int], activation: str) -> None:
        super().__init__()
        self.network = multilayer_perceptron(data_dim, hidden, 1, activation)

    def forward(self, x: Tensor) -> Tensor:
        """Standardised: the objective multiplies by the deviation of log w and adds its mean."""
        return self.network(x).squeeze(-1)
