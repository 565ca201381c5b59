"""A latent variable model p(z) p(x | z) with its approximate posterior q(z | x), and the papers' instances of it."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from evidence import networks
from evidence.distributions import Chain, DiagonalNormal, with_density

Result = TypeVar("Result")

# Rows, samples x images. Measured on two CPU cores with 784 pixels: a graph of up to 10,000 rows, some 100 MB, is
# fastest kept whole; one of 20,000 takes longer than its pieces, though these are computed twice. A forward pass
# alone is fastest at 2,000 to 4,000 rows, which stay in cache.
ROWS_KEPT, ROWS_PER_PIECE = 10_000, 4_000


class LatentVariableModel(nn.Module):
    """Prior p(z), likelihood p(x | z) and posterior q(z | x): modules whose forward returns a distribution.

    z is one tensor [K, B, D], samples first; `latent_sizes` says how D divides into stochastic layers, the one
    next to the data first.
    """

    def __init__(
        self, prior: nn.Module, likelihood: nn.Module, posterior: nn.Module, latent_sizes: Sequence[int]
    ) -> None:
        super().__init__()
        self.prior = prior
        self.likelihood = likelihood
        self.posterior = posterior
        self.latent_sizes = list(latent_sizes)

    def forward(self, function: Callable[[], Result]) -> Result:
        """What the function returns; for `detached`, which replaces parameters while this runs."""
        return function()

    def detached(
        self, function: Callable[[], Result], *parts: Literal["prior", "likelihood", "posterior"]
    ) -> Result:
        """function(), in which these parts' parameters are constants: no gradient reaches them.

        Used for path gradients: log q(z | x) computed inside passes its gradient on to z, at any depth, while the
        score term, the gradient of log q with respect to q's own parameters, is left out. All that uses the parameters
        must happen inside, since a distribution may keep live modules. It compiles, and torch.vmap takes it.
        """
        named = (pair for part in parts for pair in getattr(self, part).named_parameters(prefix=part))
        parameters = {name: parameter.detach() for name, parameter in named}
        return torch.func.functional_call(self, parameters, (function,))

    def log_joint(self, x: Tensor, z: Tensor) -> Tensor:
        """log p(x, z) = log p(z) + log p(x | z): x [B, X], z [K, B, D] -> [K, B]."""
        return self.prior().log_prob(z) + self.likelihood(z).log_prob(x)

    def log_posterior_at(self, z: Tensor, x: Tensor) -> Tensor:
        """log q(z | x) as a function of z alone, the posterior's parameters out of the graph: z [K, B, D] -> [K, B].

        Raises: UserError where it has no density.
        """
        return self.detached(lambda: with_density(self.posterior(x), "log_prob").log_prob(z), "posterior")

    def log_weights(self, x: Tensor, num_samples: int) -> Tensor:
        """log w = log p(x, z) - log q(z | x) of fresh, reparameterised z: x [B, X] -> [K, B].

        For a posterior without a density see objectives.UIVI and evaluation. Raises: UserError where it has none.
        """
        q = with_density(self.posterior(x))
        return self.log_weights_at(q.noise(num_samples), q, x)

    def log_weights_at(self, noise: Tensor, q: DiagonalNormal | Chain, x: Tensor) -> Tensor:
        """log w of the z that the noise [K, B, D] makes under q = posterior(x): [K, B]."""

        def log_weights(noise: Tensor) -> Tensor:
            z, log_q = q.rsample_and_log_prob(noise)
            return self.log_joint(x, z) - log_q

        return in_pieces(log_weights, noise)

    def log_likelihood_at(self, noise: Tensor, q: DiagonalNormal | Chain, x: Tensor) -> Tensor:
        """log p(x | z) of the z that the noise [K, B, D] makes under q = posterior(x): [K, B]."""
        return in_pieces(lambda noise: self.likelihood(q.rsample(noise)).log_prob(x), noise)


def in_pieces(function: Callable[[Tensor], Tensor], noise: Tensor) -> Tensor:
    """function(noise), one number for each sample of an image, noise [K, B, D] -> [K, B], in bounded memory.

    Of many rows only the results are kept, not the graph. The backward pass computes each piece again. The
    noise is given, so that neither value nor gradient can tell, but for the order in which they are summed.
    """
    has_graph = torch.is_grad_enabled()
    if noise.shape[0] * noise.shape[1] <= (ROWS_KEPT if has_graph else ROWS_PER_PIECE):
        return function(noise)
    again = partial(checkpoint, function, use_reentrant=False, preserve_rng_state=False)
    take = again if has_graph else function
    return torch.cat([take(piece) for piece in noise.split(max(1, ROWS_PER_PIECE // noise.shape[1]))])


def hierarchical(
    data_dim: int,
    latent: Sequence[int],
    hidden: Sequence[Sequence[int]],
    activation: str,
    mean_pixels: Tensor,
) -> LatentVariableModel:
    """Burda et al. 2015, Section 5: stochastic layers `latent` from the data upwards, `hidden` below each of them.

    One layer: x-hidden-h_1 and back. More: q(h_l | h_{l-1}) and p(h_{l-1} | h_l) mirror each other.
    """
    below = [data_dim, *latent[:-1]]
    upwards = [
        networks.ConditionalNormal(low, units, high, activation)
        for low, units, high in zip(below, hidden, latent, strict=True)
    ]
    downwards = [
        networks.ConditionalNormal(high, units[::-1], low, activation)
        for low, units, high in zip(below, hidden, latent, strict=True)
    ][:0:-1]
    decoder = networks.BernoulliDecoder(latent[0], hidden[0][::-1], data_dim, activation)
    decoder.start_at(mean_pixels)
    if len(latent) == 1:
        return LatentVariableModel(networks.StandardNormalPrior(latent[0]), decoder, upwards[0], latent)
    return LatentVariableModel(
        networks.ChainPrior(downwards, latent), decoder, networks.ChainPosterior(upwards, latent), latent
    )


def explicit(
    data_dim: int, latent: int, hidden: Sequence[int], activation: str, mean_pixels: Tensor
) -> LatentVariableModel:
    """The explicit Gaussian posterior that UIVI is compared with (Titsias and Ruiz 2019, Section 5.2)."""
    posterior = networks.TwoNetworkNormal(data_dim, hidden, latent, activation)
    return _small_vae(posterior, data_dim, latent, hidden, activation, mean_pixels)


def semi_implicit(
    data_dim: int,
    latent: int,
    noise: int,
    hidden: Sequence[int],
    activation: str,
    scale: float,
    scale_floor: float,
    mean_pixels: Tensor,
) -> LatentVariableModel:
    """The semi-implicit posterior z = mean(x, eps) + sigma u of UIVI (Titsias and Ruiz 2019, Section 5.2)."""
    posterior = networks.SemiImplicitPosterior(
        data_dim, noise, hidden, latent, activation, scale, scale_floor
    )
    return _small_vae(posterior, data_dim, latent, hidden, activation, mean_pixels)


def _small_vae(
    posterior: nn.Module,
    data_dim: int,
    latent: int,
    hidden: Sequence[int],
    activation: str,
    mean_pixels: Tensor,
) -> LatentVariableModel:
    decoder = networks.BernoulliDecoder(latent, hidden[::-1], data_dim, activation)
    decoder.start_at(mean_pixels)
    return LatentVariableModel(networks.StandardNormalPrior(latent), decoder, posterior, [latent])
