"""Rate, distortion and mutual information of each layer: what a model stores of an image, and where it has collapsed.

-ELBO = distortion + rate, with distortion -E_q log p(x | z) and rate KL(q(z | x) || p(z)) (Alemi et al. 2018). With
q(z) = (1/N) sum_n q(z | x_n), the rate of one layer is I(x; z) + KL(q(z) || p(z)) (Hoffman and Johnson 2016).
"""

import copy
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from evidence.distributions import LOG_2PI, Chain, DiagonalNormal, SemiImplicit
from evidence.errors import UserError
from evidence.evaluation.scoring import COMPONENTS, COMPONENTS_GIVEN, DRAWS, DRAWS_GIVEN, blocks
from evidence.models import LatentVariableModel
from evidence.numerics import log_mean_exp
from evidence.objectives import Objective
from evidence.streams import normal, samples

ROWS, COLUMNS = 500, 20_000  # of a matrix of densities at a time: 80 MB


class Information:
    """A metric of `eval.metrics` of all N images together, in nats per image. l numbers layers from the data upwards.

    rate, distortion: averaged over `num_samples` draws of q(z | x).
    rate_l: E[log q(h_l | h_{l-1}) - log p(h_l | h_{l+1})], with h_0 = x and no layer above the last. They sum to rate.
      Only the last is a KL divergence: that of a lower layer may be negative.
    mutual_information_l: I(n; h_l), where n is one of the N images with equal probability. It is at most log N.
    marginal_kl: KL(q(h_L) || p(h_L)) of the last layer.

    q(h_l | x) is a Gaussian for the first layer of a chain. Else it is a mixture over draws of what lies between, and
    `num_components` of them stand for it. The mutual information of these mixtures is above the true one in
    expectation, the less the more components, since it is convex in q(h_l | x). The same holds for the rate of a
    semi-implicit q(z | x).
    Raises: UserError for a posterior of another kind.
    """

    def __init__(self, num_samples: int, num_components: int) -> None:
        self.num_samples, self.num_components = num_samples, num_components

    def shorter(self) -> "Information":
        """The same by two draws of each, for a trial."""
        found = copy.copy(self)
        found.num_samples = found.num_components = 2
        return found

    def of_all(self, model: LatentVariableModel, objective: Objective, images: Tensor) -> dict[str, Tensor]:
        """Of images [N, X]: [N] by name."""
        q = model.posterior(images)
        if type(q) not in (DiagonalNormal, Chain, SemiImplicit):
            raise UserError(
                f"q(z | x) is a {type(q).__qualname__}: rate and mutual information need a DiagonalNormal, a Chain or"
                " a SemiImplicit of evidence.distributions"
            )
        layers = list(_layers(q, self.num_components))
        drawn = [_terms(model, q, layers[0], images, number) for number in range(self.num_samples)]
        rates = [torch.stack(terms).mean(0) for terms in zip(*(each.rates for each in drawn), strict=True)]
        found = {
            "rate": torch.stack(rates).sum(0),
            "distortion": torch.stack([each.distortion for each in drawn]).mean(0),
        }
        found |= {f"rate_{number}": rate for number, rate in enumerate(rates, 1)}
        for number, layer in enumerate(layers, 1):
            found[f"mutual_information_{number}"] = layer.log_conditional() - layer.log_marginal()
        prior = model.prior()
        top = prior.first if isinstance(prior, Chain) else prior
        found["marginal_kl"] = layers[-1].log_marginal() - top.log_prob(layers[-1].draws)[0].double()
        return found


class Layer(NamedTuple):
    """q(h | x_n) as a mixture of M Gaussians for each of N images, and a draw of each image's first component.

    means [M, N, D]; scales that broadcast against them; draws [1, N, D].
    """

    means: Tensor
    scales: Tensor
    draws: Tensor

    def with_own(self, mean: Tensor, draws: Tensor) -> "Layer":
        """The same with draws [1, N, D] of another component, which is the first in place of the one that was."""
        return self._replace(means=torch.cat([mean, self.means[1:]]), draws=draws)

    def log_conditional(self) -> Tensor:
        """log q(h_n | x_n) of each draw under its own image's mixture, [N]."""
        each = DiagonalNormal(self.means.double(), self.scales.double()).log_prob(self.draws.double())
        return log_mean_exp(each)

    def log_marginal(self) -> Tensor:
        """log q(h_n) of each draw under the mixture of all N M components, [N]."""
        dim = self.draws.shape[-1]
        means = self.means.double().reshape(-1, dim)
        scales = self.scales.double().expand(self.means.shape).reshape(-1, dim)
        centre = means.mean(0)
        return torch.cat(
            [
                _log_mean_density(rows - centre, means - centre, scales)
                for rows in self.draws[0].double().split(ROWS)
            ]
        )


def _log_mean_density(z: Tensor, means: Tensor, scales: Tensor) -> Tensor:
    """log (1/C) sum_c N(z; means_c, diag(scales_c^2)): z [R, D], means and scales [C, D] -> [R].

    (z - m)^2 / s^2 is multiplied out, so that two matrix products give all pairs.
    """
    total = torch.full(z.shape[:1], -math.inf, dtype=z.dtype, device=z.device)
    for first, count in blocks(len(means), COLUMNS):
        mean, scale = means[first : first + count], scales[first : first + count]
        precision = scale**-2
        constant = -0.5 * (mean.square() * precision).sum(1) - scale.log().sum(1)
        exponent = torch.addmm(constant, z, (mean * precision).T) - 0.5 * z.square() @ precision.T
        total = torch.logaddexp(total, exponent.logsumexp(1))
    return total - math.log(len(means)) - 0.5 * z.shape[1] * LOG_2PI


def _layers(q: DiagonalNormal | Chain | SemiImplicit, num_components: int) -> Iterator[Layer]:
    """q(h_l | x) of each layer, from the data upwards."""
    if isinstance(q, DiagonalNormal):
        samples(0, COMPONENTS)
        yield Layer(q.mean.unsqueeze(0), q.scale.unsqueeze(0), q.rsample(q.noise(1)))
        return
    if isinstance(q, SemiImplicit):
        samples(0, COMPONENTS)
        given = q.conditional(q.noise(num_components))
        samples(0, COMPONENTS_GIVEN)
        noise = normal(given.mean[:1].shape, given.mean)
        yield Layer(given.mean, given.scale, given.mean[:1] + given.scale * noise)
        return
    samples(0, COMPONENTS)
    drawn = q.rsample(q.noise(num_components)).split(list(q.sizes), -1)
    yield Layer(q.first.mean.unsqueeze(0), q.first.scale.unsqueeze(0), drawn[0][:1])
    for transition, below, layer in zip(q.transitions, drawn, drawn[1:], strict=False):
        given = transition(below)
        yield Layer(given.mean, given.scale, layer[:1])


def _log_probs(distribution: Any, z: Tensor) -> list[Tensor]:
    """The log density of each layer of z, from the data upwards: [K, B] each."""
    return distribution.layer_log_probs(z) if isinstance(distribution, Chain) else [distribution.log_prob(z)]


class _Terms(NamedTuple):
    """Of one draw of z for each image, [N] each, float64."""

    rates: list[Tensor]
    distortion: Tensor


def _terms(
    model: LatentVariableModel,
    q: DiagonalNormal | Chain | SemiImplicit,
    first: Layer,
    x: Tensor,
    number: int,
) -> _Terms:
    """Those of the draw of this number; `first` is the first layer."""
    prior = model.prior()
    samples(number, DRAWS)
    noise = q.noise(1)
    if isinstance(q, SemiImplicit):
        given = q.conditional(noise)
        samples(number, DRAWS_GIVEN)
        z = given.rsample(normal(given.mean.shape, given.mean))
        rates = [first.with_own(given.mean, z).log_conditional() - prior.log_prob(z)[0].double()]
    else:
        z = q.rsample(noise)
        pairs = zip(_log_probs(q, z), _log_probs(prior, z), strict=True)
        rates = [(ours - theirs)[0].double() for ours, theirs in pairs]
    return _Terms(rates, -model.likelihood(z).log_prob(x)[0].double())
