"""Checks the densities of a model: that log q(z | x) and log p(z) are those of the z that are drawn.

z is a function of noise eps ~ N(0, I). So log q(z(eps) | x) = log N(eps; 0, I) - log |det dz/deps|. The determinant is
taken by automatic differentiation. Each check may change the model, so it is given a copy.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from evidence.distributions import LOG_2PI, has_density
from evidence.errors import UserError
from evidence.models import LatentVariableModel
from evidence.modules import is_users, scoring, unchanged
from evidence.trial.interfaces import agree, named

Drawn = Callable[
    [Tensor], tuple[Tensor, Tensor]
]  # of noise [K, B, D]: z [K, B, D], and its log density [K, B]

ROWS, SAMPLES = 20, 2  # of the prior, and of the posterior for each image
NUMBERS = 30_000  # of noise
MAX_DEVIATION = 8.0  # of the moments of noise, in standard errors
SHIFT = 0.05  # of the parameters, of their size or of 1: a term may be zero at their initial values
MAX_UNITS = 300  # of z: with 1,000 the Jacobians would take a minute
MAX_CONDITION = 1e4  # of dz/deps: beyond it its determinant has too few digits


class _Compared(NamedTuple):
    """The log densities `found`, and those by the change of variables, of the same z: float64 [rows]."""

    what: str
    found: Tensor
    expected: Tensor

    @property
    def excess(self) -> Tensor:
        """How much too large they are found."""
        return self.found - self.expected

    @property
    def tolerance(self) -> Tensor:
        """For rounding."""
        return 0.01 + 1e-3 * self.expected.abs()


def check_densities(model: LatentVariableModel, x: Tensor) -> None:
    """Raise UserError where a density of the model is not a density, in eval mode, x [B, X].

    It says nothing where z is discrete, is no function of as many normal numbers, or has a degenerate Jacobian. This
    package's own parts have tests instead, as a Jacobian takes a tenth of a second.
    """
    if not any(map(is_users, model.modules())):
        return
    with torch.no_grad(), scoring(model):
        with unchanged(model):
            _check_noise(model.prior().noise, named(model.prior))
            _check_noise(model.posterior(x).noise, named(model.posterior))
        for shift in (0.0, SHIFT):
            with unchanged(model):
                _shift(model, shift)
                try:
                    compared = _of_prior(model), _of_posterior(model, x)
                    _check_likelihood(model, x)
                except UserError:
                    raise
                except Exception:  # of parameters that training would not reach
                    if not shift:
                        raise
                else:
                    _judge([each for each in compared if each is not None])


def _check_noise(noise: Callable[[int], Tensor], name: str) -> None:
    """Compare moments with those of N(0, I): E e = 0, E e^2 = 1, E e^4 = 3, and E (sum_i e_i)^2 = D."""
    drawn = noise(-(-NUMBERS // noise(1).numel())).double()
    sums = drawn.sum(-1).square() / drawn.shape[-1]
    for values, expected, variance in (drawn, 0, 1), (drawn**2, 1, 2), (drawn**4, 3, 96), (sums, 1, 2):
        error = (variance / values.numel()) ** 0.5
        if abs(float(values.mean()) - expected) > MAX_DEVIATION * error:
            raise UserError(
                f"{name}: noise is not standard normal; draw it by evidence.streams.normal, and transform it in"
                " rsample"
            )


def _shift(model: LatentVariableModel, shift: float) -> None:
    """Change what is trained, as training would."""
    for parameter in model.parameters():
        if parameter.requires_grad and parameter.is_floating_point():
            parameter.add_(shift * parameter.abs().clamp(min=1) * torch.randn_like(parameter))


def _of_prior(model: LatentVariableModel) -> _Compared | None:
    """Of a prior that is a function of noise. A mixture may draw its component besides."""
    prior = model.prior()
    noise = prior.noise(ROWS)

    def drawn(noise: Tensor) -> tuple[Tensor, Tensor]:
        z = prior.rsample(noise[:, 0]).unsqueeze(1)
        return z, prior.log_prob(z)

    if not torch.equal(prior.rsample(noise), prior.rsample(noise)):
        return None
    return _compared(drawn, noise.unsqueeze(1), f"{named(model.prior)}: log p(z)")


def _of_posterior(model: LatentVariableModel, x: Tensor) -> _Compared | None:
    q, what = model.posterior(x), f"{named(model.posterior)}: log q(z | x)"
    return _compared(q.rsample_and_log_prob, q.noise(SAMPLES), what) if has_density(q) else None


def _check_likelihood(model: LatentVariableModel, x: Tensor) -> None:
    """Images are 0 and 1, so p(x | z) is a probability."""
    z = model.prior().rsample(model.prior().noise(SAMPLES)).unsqueeze(1).repeat(1, len(x), 1)
    largest = float(model.likelihood(z).log_prob(x).max())
    if largest > 1e-3:
        raise UserError(
            f"{named(model.likelihood)}: log p(x | z) is {largest:.4g}; images are 0 and 1, so it is the log of a"
            " probability, at most 0"
        )


def _judge(compared: list[_Compared]) -> None:
    """Raise UserError where one is wrong.

    Where both are, they may leave out the same constant, or be densities with respect to another measure than dz.
    log w, of which numbers are made, is right then.
    """
    wrong = [
        each for each in compared if bool((each.excess.abs() > each.tolerance).any())
    ]  # NaN is another fault
    if len(wrong) != 1:
        return
    (one,) = wrong
    at = one.excess.abs().argmax()
    raise UserError(
        f"{one.what} is {float(one.found[at]):.4g}, and by the density of the noise and the Jacobian of rsample it is"
        f" {float(one.expected[at]):.4g}; they must be equal, constants included"
    )


def _compared(drawn: Drawn, noise: Tensor, what: str) -> _Compared | None:
    """Both log densities of the z whose Jacobian can be used. None where z is no such function of the noise."""
    z, found = drawn(noise)
    is_by_row = z.shape == noise.shape and agree(drawn(noise.roll(1, 0))[0], z.roll(1, 0))
    if not is_by_row or z.shape[-1] > MAX_UNITS or torch.finfo(z.dtype).bits < 32:
        return None
    try:
        jacobian = _jacobian(drawn, noise)
    except RuntimeError:  # a map that cannot be differentiated so
        return None
    rows = _is_derivative(jacobian, drawn, noise)
    expected = -0.5 * (noise.double().square() + LOG_2PI).sum(-1) - torch.linalg.slogdet(jacobian).logabsdet
    return _Compared(what, found.double()[rows], expected[rows])


def _jacobian(drawn: Drawn, noise: Tensor) -> Tensor:
    """float64 [K, B, D, D]: the derivatives of z_i (rows) by eps_j (columns)."""
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


def _is_derivative(jacobian: Tensor, drawn: Drawn, noise: Tensor) -> Tensor:
    """Whether each has an inverse, and is what z changes by: [K, B]. That of a straight-through sample is not."""
    is_regular = jacobian.isfinite().all(-1).all(-1)
    is_regular &= torch.linalg.cond(jacobian.nan_to_num(0, 0, 0)) < MAX_CONDITION
    step = 1e-2 * torch.randn_like(noise)
    expected = (jacobian @ step.double().unsqueeze(-1)).squeeze(-1)
    found = (drawn(noise + step)[0] - drawn(noise - step)[0]).double() / 2
    return is_regular & ((found - expected).norm(dim=-1) < 0.05 * expected.norm(dim=-1))
