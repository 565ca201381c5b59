"""Checks the densities of a model: that log q(z | x) and log p(z) are those of the z that are drawn.

z is a function of noise eps ~ N(0, I). So log q(z(eps) | x) = log N(eps; 0, I) - log |det dz/deps|. The determinant is
taken by automatic differentiation. Each check may change the model, so it is given a copy.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from evidence.distributions import LOG_2PI, has_density
from evidence.errors import UserError
from evidence.models import LatentVariableModel
from evidence.modules import is_users, scoring, unchanged
from evidence.trial.interfaces import named

Drawn = Callable[
    [Tensor], tuple[Tensor, Tensor]
]  # of noise [N, B, D]: z [N, B, D], and its log density [N, B]

DRAWS, ROWS, SAMPLES = 10_000, 20, 2
MAX_DEVIATION = 8.0  # of the moments of noise, in standard errors
SHIFT = 0.05  # of the parameters: a term may be zero at their initial values
MAX_CONDITION = 1e4  # of dz/deps: beyond it its determinant has too few digits


def check_densities(model: LatentVariableModel, x: Tensor) -> None:
    """Raise UserError where a density of the model is not a density, in eval mode, x [B, X].

    It says nothing where z is discrete, is no function of as many normal numbers, or has a degenerate Jacobian. This
    package's own parts have tests instead, as a Jacobian takes a tenth of a second.
    """
    if not any(map(is_users, model.modules())):
        return
    with torch.no_grad(), scoring(model):
        _check_noise(model.prior().noise(DRAWS), named(model.prior))
        _check_noise(model.posterior(x).noise(DRAWS), named(model.posterior))
        with unchanged(model):
            for shift in (0.0, SHIFT):
                for parameter in model.parameters():
                    if parameter.requires_grad and parameter.is_floating_point():
                        parameter.add_(shift * torch.randn_like(parameter))
                _check_prior(model)
                _check_posterior(model, x)
                _check_likelihood(model, x)


def _check_noise(noise: Tensor, name: str) -> None:
    """Compare three moments with those of N(0, 1): E e = 0, E e^2 = 1, E e^4 = 3, of variances 1, 2 and 96."""
    noise = noise.double()
    moments = noise.new_tensor([noise.mean(), noise.square().mean(), noise.pow(4).mean()])
    error = noise.new_tensor([1.0, 2.0, 96.0]).div(noise.numel()).sqrt()
    if ((moments - noise.new_tensor([0.0, 1.0, 3.0])).abs() > MAX_DEVIATION * error).any():
        raise UserError(
            f"{name}: noise is not standard normal; draw it by evidence.streams.normal, and transform it in rsample"
        )


def _check_prior(model: LatentVariableModel) -> None:
    """Of a prior that is a function of noise. A mixture may draw its component besides."""
    prior = model.prior()
    noise = prior.noise(ROWS)

    def drawn(noise: Tensor) -> tuple[Tensor, Tensor]:
        z = prior.rsample(noise[:, 0]).unsqueeze(1)
        return z, prior.log_prob(z)

    if torch.equal(prior.rsample(noise), prior.rsample(noise)):
        _check_change(drawn, noise.unsqueeze(1), f"{named(model.prior)}: log p(z)")


def _check_posterior(model: LatentVariableModel, x: Tensor) -> None:
    q, name = model.posterior(x), named(model.posterior)
    if has_density(q):
        _check_change(q.rsample_and_log_prob, q.noise(SAMPLES), f"{name}: log q(z | x)")


def _check_likelihood(model: LatentVariableModel, x: Tensor) -> None:
    """Images are 0 and 1, so p(x | z) is a probability."""
    z = model.prior().rsample(model.prior().noise(SAMPLES)).unsqueeze(1).expand(-1, len(x), -1)
    largest = float(model.likelihood(z).log_prob(x).max())
    if largest > 1e-3:
        raise UserError(
            f"{named(model.likelihood)}: log p(x | z) is {largest:.4g}; images are 0 and 1, so it is the log of a"
            " probability, at most 0"
        )


def _check_change(drawn: Drawn, noise: Tensor, what: str) -> None:
    """Compare a log density with that of the noise and the Jacobian."""
    z, log_density = drawn(noise)
    if z.shape != noise.shape:
        return
    jacobian = _jacobian(drawn, noise)
    if not _is_derivative(jacobian, drawn, noise, z):
        return
    log_noise = -0.5 * (noise.double().square() + LOG_2PI).sum(-1)
    expected = log_noise - torch.linalg.slogdet(jacobian).logabsdet
    tolerance = 0.01 + max(1e-3, torch.finfo(z.dtype).eps ** 0.5) * expected.abs()
    error = (log_density - expected).abs()
    if bool((error > tolerance).any()):  # NaN is no error of this kind
        at = error.flatten().argmax()
        found, right = float(log_density.flatten()[at]), float(expected.flatten()[at])
        raise UserError(
            f"{what} is {found:.4g}, and by the density of the noise and the Jacobian of rsample it is {right:.4g};"
            " they must be equal"
        )


def _jacobian(drawn: Drawn, noise: Tensor) -> Tensor:
    """float64 [N, B, D, D]: the derivatives of z_i (rows) by eps_j (columns)."""
    with torch.enable_grad():
        leaf = noise.detach().requires_grad_()
        z = drawn(leaf)[0]
        if not z.requires_grad:
            return noise.new_zeros(*noise.shape, noise.shape[-1]).double()
        units = z.sum((0, 1)).unbind()
        rows = [
            torch.autograd.grad(unit, leaf, retain_graph=True, materialize_grads=True)[0] for unit in units
        ]
    return torch.stack(rows, -2).double()


def _is_derivative(jacobian: Tensor, drawn: Drawn, noise: Tensor, z: Tensor) -> bool:
    """Whether it has an inverse, and is what z changes by. That of a straight-through sample is not."""
    if not jacobian.isfinite().all() or not (torch.linalg.cond(jacobian) < MAX_CONDITION).all():
        return False
    step = 1e-2 * torch.randn_like(noise)
    expected = (jacobian @ step.double().unsqueeze(-1)).squeeze(-1)
    found = (drawn(noise + step)[0] - drawn(noise - step)[0]).double() / 2
    return bool(((found - expected).norm(dim=-1) < 0.05 * expected.norm(dim=-1)).all())
