"""Checks the densities of a model: that log q(z | x) and log p(z) are those of the z that are drawn.

z is a function of noise eps ~ N(0, I). So log q(z(eps) | x) = log N(eps; 0, I) - log |det dz/deps|. Each check may
change the model, so it is given a copy.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from evidence.distributions import LOG_2PI, has_density
from evidence.errors import UserError
from evidence.models import LatentVariableModel
from evidence.modules import is_users, scoring, unchanged
from evidence.trial.changed import shift
from evidence.trial.interfaces import agree, named
from evidence.trial.jacobians import is_derivative, jacobian
from evidence.trial.likelihoods import check_likelihood
from evidence.trial.mixtures import ROWS as MIXTURE_ROWS
from evidence.trial.mixtures import excess_of_mixture

Drawn = Callable[
    [Tensor], tuple[Tensor, Tensor]
]  # of noise [K, B, D]: z [K, B, D], and its log density [K, B]

ROWS, SAMPLES = 20, 2  # of the prior, and of the posterior for each image
NUMBERS = 30_000  # of noise
MAX_DEVIATION = 8.0  # of the moments of noise, in standard errors
MANY_UNITS, MAX_UNITS = 300, 1000  # of z: beyond the first one row is compared, beyond the second none


class _Compared(NamedTuple):
    """The log densities `found`, and those by the change of variables, of the same z: float64 [rows].

    slack: what the latter are known to, in nats.
    """

    what: str
    found: Tensor
    expected: Tensor
    slack: float = 0.0

    @property
    def excess(self) -> Tensor:
        """How much too large they are found."""
        return self.found - self.expected

    @property
    def tolerance(self) -> Tensor:
        """For rounding."""
        return 0.01 + 1e-3 * self.expected.abs() + self.slack

    @property
    def is_wrong(self) -> bool:
        """Whether one is. NaN is another fault."""
        return bool((self.excess.abs() > self.tolerance).any())

    @property
    def is_constant(self) -> bool:
        """Whether all are wrong by one number."""
        return bool(((self.excess - self.excess.mean()).abs() <= self.tolerance).all())


def check_densities(model: LatentVariableModel, x: Tensor) -> list[str]:
    """Raise UserError where a density of the model is not a density, in eval mode, x [B, X].

    Return notes on what could not be compared. It says nothing where z is discrete. This package's own parts have tests
    instead, as a Jacobian takes a tenth of a second.
    """
    if not any(map(is_users, model.modules())):
        return []
    notes: list[str] = []
    with torch.no_grad(), scoring(model):
        with unchanged(model):
            _check_noise(model.prior().noise, named(model.prior))
            _check_noise(model.posterior(x).noise, named(model.posterior))
        for is_shifted in (False, True):
            with unchanged(model):
                if is_shifted:
                    shift(model)
                try:
                    compared = _of_prior(model), _of_posterior(model, x)
                    found = [each for each in compared if isinstance(each, str)]
                    if is_users(model.likelihood):
                        found += check_likelihood(model, x)
                except UserError:
                    raise
                except Exception:  # of parameters that training would not reach
                    if not is_shifted:
                        raise
                else:
                    found += _judge([each for each in compared if isinstance(each, _Compared)])
                    notes = notes or found
    return notes


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


def _of_prior(model: LatentVariableModel) -> _Compared | str | None:
    """Of a prior that is a function of noise, or a mixture of such."""
    prior, what = model.prior(), f"{named(model.prior)}: log p(z)"
    noise = prior.noise(ROWS if sum(model.latent_sizes) <= MANY_UNITS else 1)

    def drawn(noise: Tensor) -> tuple[Tensor, Tensor]:
        z = prior.rsample(noise[:, 0]).unsqueeze(1)
        return z, prior.log_prob(z)

    if torch.equal(prior.rsample(noise), prior.rsample(noise)):
        return _compared(drawn, noise.unsqueeze(1), what)
    found = excess_of_mixture(prior, prior.noise(MIXTURE_ROWS))
    if found is None:
        return (
            f"{what} could not be compared with the z that are drawn: of a mixture that takes normal distributions of"
            " up to 200 units"
        )
    log_p = prior.log_prob(prior.rsample(noise).unsqueeze(1))[:, 0].double()
    return _Compared(what, log_p, log_p - found[0], found[1])


def _of_posterior(model: LatentVariableModel, x: Tensor) -> _Compared | str | None:
    q, what = model.posterior(x), f"{named(model.posterior)}: log q(z | x)"
    if not has_density(q):
        return None
    if sum(model.latent_sizes) > MANY_UNITS:
        q = model.posterior(x[:1])
        return _compared(q.rsample_and_log_prob, q.noise(1), what)
    return _compared(q.rsample_and_log_prob, q.noise(SAMPLES), what)


def _judge(compared: list[_Compared]) -> list[str]:
    """Raise UserError where one is wrong, or both are in other ways. Return notes.

    Where both leave out the same constant, log w, of which numbers are made, is right. Both may also be densities with
    respect to another measure than dz; then both are wrong by more than a constant.
    """
    wrong = [each for each in compared if each.is_wrong]
    if not wrong:
        return []
    if len(wrong) == 2:
        constants = [each for each in wrong if each.is_constant]
        slack = sum(float(each.tolerance.max()) for each in wrong)
        if len(constants) == 2 and abs(float(wrong[0].excess.mean() - wrong[1].excess.mean())) <= slack:
            return []
        if not constants:
            return [
                f"{wrong[0].what} and {wrong[1].what} are not those of the z that are drawn; log w is right only where"
                " both are densities with respect to the same other measure"
            ]
    one = wrong[-1]
    at = one.excess.abs().argmax()
    raise UserError(
        f"{one.what} is {float(one.found[at]):.4g}, and by the density of the noise and the Jacobian of rsample it is"
        f" {float(one.expected[at]):.4g}; they must be equal, constants included"
    )


def _compared(drawn: Drawn, noise: Tensor, what: str) -> _Compared | str | None:
    """Both log densities of the z whose Jacobian can be used; or why there are none. None where z is discrete."""

    def z_of(noise: Tensor) -> Tensor:
        return drawn(noise)[0]

    z, found = drawn(noise)
    cannot = f"{what} could not be compared with the z that are drawn"
    if z.shape != noise.shape or not agree(z_of(noise.roll(1, 0)), z.roll(1, 0)):
        return f"{cannot}: z is no function of its own noise, number for number"
    if z.shape[-1] > MAX_UNITS or torch.finfo(z.dtype).bits < 32:
        return f"{cannot}: it has more than {MAX_UNITS} units, or numbers of less than 32 bits"
    derivative = jacobian(z_of, noise)
    rows = is_derivative(derivative, z_of, noise)
    if not bool(rows.any()):
        change = (z_of(noise + 1e-3 * torch.randn_like(noise)) - z).abs().amax(-1)
        is_discrete = float((change > 1e-6).double().mean()) < 0.5  # some rows may jump
        return None if is_discrete else f"{cannot}: dz/deps has no inverse, so z may have no density"
    expected = -0.5 * (noise.double().square() + LOG_2PI).sum(-1) - torch.linalg.slogdet(derivative).logabsdet
    return _Compared(what, found.double()[rows], expected[rows])
