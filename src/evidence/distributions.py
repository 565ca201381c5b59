"""The distributions a variational autoencoder is made of; event dimensions are summed here and nowhere else.

A distribution that can be sampled is a deterministic function of standard normal noise, `rsample(noise)`, so that
a sample can be built again, with or without a graph, from the noise that made it.
"""

import math
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any, NamedTuple

import torch
from torch import Tensor

from evidence.errors import UserError
from evidence.numerics import sum_softplus
from evidence.streams import normal, uniform

LOG_2PI = math.log(2 * math.pi)
Pullback = Callable[[Tensor], tuple[Tensor, Callable[[Tensor], Tensor]]]


class DiagonalNormal(NamedTuple):
    """N(mean, diag(scale^2)) over the last dimension; mean and scale [..., D] broadcast against each other."""

    mean: Tensor
    scale: Tensor

    @property
    def shape(self) -> torch.Size:
        """[..., D]: that of mean and scale together."""
        mean, scale = self.mean.shape, self.scale.shape
        # Broadcasting takes as long as a layer, so equal shapes are left as they are.
        return mean if mean == scale else torch.broadcast_shapes(mean, scale)

    def sample(self, num_samples: int | None = None) -> Tensor:
        """Draws without a graph, [K, ..., D], or one draw [..., D] where no number is given."""
        noise = normal(self.shape, self.mean) if num_samples is None else self.noise(num_samples)
        return self.rsample(noise).detach()

    def noise(self, num_samples: int) -> Tensor:
        """Standard normal noise for `num_samples` draws, [K, ..., D]."""
        return normal((num_samples, *self.shape), self.mean)

    def rsample(self, noise: Tensor) -> Tensor:
        """z = mean + scale * noise."""
        return self.mean + self.scale * noise

    def log_prob(self, z: Tensor) -> Tensor:
        """log N(z; mean, scale^2), z [..., D] -> [...]."""
        standardised = (z - self.mean) / self.scale
        return -0.5 * standardised.square().sum(-1) - self._log_normaliser(z.shape[-1])

    def rsample_and_log_prob(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """z and log q(z), which is a function of the noise and the scale alone."""
        return self.rsample(noise), -0.5 * noise.square().sum(-1) - self._log_normaliser(noise.shape[-1])

    def expectation(self, num_samples: int) -> Tensor:
        """E[z], exact whatever `num_samples`: [..., D]."""
        return self.mean.expand(self.shape)

    def _log_normaliser(self, dim: int) -> Tensor:
        """sum log scale + D/2 log 2 pi, of one scale for each of the D dimensions or one for all of them."""
        each = self.scale.log()
        if each.shape[-1:] != (dim,):
            each = each.expand(*each.shape[:-1], dim)
        return each.sum(-1) + 0.5 * dim * LOG_2PI


def kl_divergence(q: object, p: object) -> Tensor:
    """KL(q || p) = 1/2 sum (((m_q - m_p)^2 + s_q^2) / s_p^2 - 1) - sum log(s_q / s_p), two DiagonalNormal: [...].

    With p = N(0, I) it is that of Kingma and Welling 2014, Appendix B.
    Raises: UserError where either is anything else, a subclass included, whose density may be another.
    """
    if type(q) is not DiagonalNormal or type(p) is not DiagonalNormal:
        raise UserError(
            f"objective.kl=analytic is the KL divergence of two DiagonalNormal, and here q(z | x) is a {_kind(q)} and"
            f" p(z) a {_kind(p)}: choose objective.kl=sampled"
        )
    ratio = q.scale / p.scale
    return (0.5 * (((q.mean - p.mean) / p.scale).square() + ratio.square() - 1) - ratio.log()).sum(-1)


class Bernoulli(NamedTuple):
    """Independent pixels x_i in {0, 1} with P(x_i = 1) = sigmoid(logits_i); logits [..., X]."""

    logits: Tensor

    @property
    def mean(self) -> Tensor:
        """P(x_i = 1), [..., X]."""
        return torch.sigmoid(self.logits)

    def sample(self) -> Tensor:
        """A draw of the pixels, 0 or 1, [..., X]."""
        mean = self.mean.detach()
        return (uniform(mean.shape, mean) < mean).to(mean.dtype)

    def log_prob(self, x: Tensor) -> Tensor:
        """sum_i x_i l_i - log(1 + exp l_i), finite for any finite logit: x [B, X] -> [..., B]."""
        return torch.linalg.vecdot(x, self.logits) - sum_softplus(self.logits)


class Chain(NamedTuple):
    """Layers that each condition the next, seen as one latent tensor z = [h_1, ..., h_L] of the given sizes.

    Upwards q(h_1 | x) q(h_2 | h_1) ... (a posterior), or downwards p(h_L) p(h_{L-1} | h_L) ... (a prior): `first` is
    the distribution of the layer visited first, `transitions` map a layer to the distribution of the next one.
    """

    first: DiagonalNormal
    transitions: Sequence[Callable[[Tensor], DiagonalNormal]]
    sizes: Sequence[int]
    downwards: bool = False

    def sample(self, num_samples: int) -> Tensor:
        """Draws of z without a graph, [K, ..., D]."""
        return self.rsample(self.noise(num_samples)).detach()

    def noise(self, num_samples: int) -> Tensor:
        """Standard normal noise for `num_samples` draws, [K, ..., D] with D the sum of the sizes."""
        mean = self.first.mean
        shape = (num_samples, *self.first.shape[:-1], sum(self.sizes))
        return normal(shape, mean)

    def rsample(self, noise: Tensor) -> Tensor:
        """z, each layer drawn given the one visited before it."""
        return self.rsample_and_log_prob(noise)[0]

    def rsample_and_log_prob(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """z [..., D] and its log density [...]."""
        noises = self._in_order(noise)
        layer, log_prob = self.first.rsample_and_log_prob(noises[0])
        layers = [layer]
        for transition, layer_noise in zip(self.transitions, noises[1:], strict=True):
            layer, term = transition(layer).rsample_and_log_prob(layer_noise)
            layers.append(layer)
            log_prob = log_prob + term
        return torch.cat(layers[::-1] if self.downwards else layers, -1), log_prob

    def log_prob(self, z: Tensor) -> Tensor:
        """The sum of the layers' log densities, z [..., D] -> [...]."""
        return reduce(torch.add, self._log_probs(z))

    def layer_log_probs(self, z: Tensor) -> list[Tensor]:
        """log p of each layer given the one visited before it, in the order of z [..., D]: [...] each."""
        return self._log_probs(z)[:: -1 if self.downwards else 1]

    def _log_probs(self, z: Tensor) -> list[Tensor]:
        layers = self._in_order(z)
        pairs = zip(self.transitions, layers[:-1], layers[1:], strict=True)
        given = [transition(before).log_prob(layer) for transition, before, layer in pairs]
        return [self.first.log_prob(layers[0]), *given]

    def expectation(self, num_samples: int) -> Tensor:
        """An unbiased estimate of E[z], [..., D]: the first layer's exact, the others' means averaged over draws."""
        layers = self._in_order(self.rsample(self.noise(num_samples)))
        means = [self.first.expectation(num_samples)]
        means += [
            t(below).expectation(num_samples).mean(0)
            for t, below in zip(self.transitions, layers[:-1], strict=True)
        ]
        return torch.cat(means[::-1] if self.downwards else means, -1)

    def _in_order(self, z: Tensor) -> Sequence[Tensor]:
        layers = z.split(list(self.sizes), -1)
        return layers[::-1] if self.downwards else layers


class SemiImplicit(NamedTuple):
    """q(z | x) = E_{eps ~ N(0, I)} N(z; mean(eps), diag(scale^2)) for a batch of images: easy to draw, no density.

    `mean` maps eps [..., B, E] to [..., B, D]; scale is [D], or [B, D], and no function of eps. `pullback`
    is for whoever knows the derivative of `mean` by hand, which a chain over eps uses some fifty times a step: it
    maps eps to mean(eps) and the function c [..., B, D] -> (d mean / d eps)^T c [..., B, E].
    """

    mean: Callable[[Tensor], Tensor]
    scale: Tensor
    batch_size: int
    noise_dim: int
    pullback: Pullback | None = None

    @property
    def has_density(self) -> bool:
        """False: log q(z | x) is an integral, so that scores need estimates of it."""
        return False

    def sample(self, num_samples: int) -> Tensor:
        """Draws of z without a graph, [K, B, D]."""
        return self.rsample(self.noise(num_samples)).detach()

    def noise(self, num_samples: int) -> Tensor:
        """eps for `num_samples` draws, [K, B, E]."""
        shape = (num_samples, self.batch_size, self.noise_dim)
        return normal(shape, self.scale)

    def conditional(self, eps: Tensor) -> DiagonalNormal:
        """q(z | eps, x)."""
        return DiagonalNormal(self.mean(eps), self.scale)

    def rsample(self, eps: Tensor) -> Tensor:
        """z ~ q(z | eps, x), [K, B, D]."""
        mean = self.mean(eps)
        return mean + self.scale * normal(mean.shape, mean)

    def expectation(self, num_samples: int) -> Tensor:
        """An unbiased estimate of E[z], [B, D]: the mean of mean(eps) over draws of eps."""
        return self.mean(self.noise(num_samples)).mean(0)


def has_density(q: object) -> bool:
    """Whether q(z | x) gives log q(z | x): it does, unless its attribute `has_density` says otherwise."""
    return bool(getattr(q, "has_density", True))


def with_density(q: Any, *methods: str) -> Any:
    """q(z | x) as it is. Raises: UserError where it cannot give z and log q(z | x) of noise, or lacks `methods`."""
    missing = [name for name in ("noise", "rsample_and_log_prob", *methods) if not hasattr(q, name)]
    if missing:
        raise UserError(
            f"q(z | x) is a {_kind(q)}, which has no {' and no '.join(missing)}: a posterior with a density is needed,"
            " such as evidence.distributions.DiagonalNormal or Chain"
        )
    return q


def semi_implicit(q: object) -> SemiImplicit:
    """q(z | x) as it is. Raises: UserError where it is no SemiImplicit; a subclass may not be Gaussian given eps."""
    if type(q) is not SemiImplicit:
        raise UserError(
            f"q(z | x) is a {_kind(q)}: objective=uivi, objective=sivi and scores without a density need"
            " evidence.distributions.SemiImplicit itself"
        )
    return q


def _kind(distribution: object) -> str:
    kind = type(distribution)
    return kind.__qualname__ if kind.__module__ == __name__ else f"{kind.__module__}.{kind.__qualname__}"
