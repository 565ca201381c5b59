"""Rate, distortion and mutual information against closed forms of Gaussian models, of one layer and two."""

import math
from collections.abc import Callable
from typing import Any

import problems
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from evidence.distributions import Chain, DiagonalNormal
from evidence.errors import UserError
from evidence.evaluation import Information
from evidence.models import LatentVariableModel
from evidence.objectives import ELBO

pytestmark = pytest.mark.usefixtures("float64")

N = 1_500
SD = 1.3  # of problems.images
UP, WIDTH_1, WIDTH_2 = 0.7, 0.8, 0.6  # q(h_1 | x) = N(x, WIDTH_1^2), q(h_2 | h_1) = N(UP h_1, WIDTH_2^2)
DOWN, WIDTH = 0.9, 1.1  # p(h_1 | h_2) = N(DOWN h_2, WIDTH^2)


class Made(nn.Module):
    """What a function returns."""

    def __init__(self, make: Callable[..., Any]) -> None:
        super().__init__()
        self.make = make

    def forward(self, *given: Tensor) -> Any:
        return self.make(*given)


def normal(mean: Tensor, scale: float) -> DiagonalNormal:
    return DiagonalNormal(mean, torch.full_like(mean, scale))


def chain(up: float = UP, width: float = WIDTH_2) -> LatentVariableModel:
    """Two layers of one unit each."""
    prior = Chain(normal(torch.zeros(1), 1.0), [lambda h: normal(DOWN * h, WIDTH)], [1, 1], downwards=True)
    return LatentVariableModel(
        Made(lambda: prior),
        Made(lambda z: normal(z[..., :1], 1.0)),
        Made(lambda x: Chain(normal(x, WIDTH_1), [lambda h: normal(up * h, width)], [1, 1])),
        [1, 1],
    )


@torch.no_grad()
def measured(
    model: LatentVariableModel, x: Tensor, num_samples: int = 50, num_components: int = 10
) -> dict[str, Tensor]:
    torch.manual_seed(3)
    return Information(num_samples, num_components).of_all(model, ELBO(1), x)


def assert_near(found: Tensor, exact: float | Tensor, bias: float = 0.0) -> None:
    """The mean of found [N], within four standard errors and a bias that the test explains."""
    errors = found - exact
    assert abs(errors.mean()) < 4 * errors.std() / len(found) ** 0.5 + bias


@torch.no_grad()
def test_of_one_layer() -> None:
    """With Gaussian x, z is Gaussian too, and I(x; z) = 1/2 log det Cov z / det Cov z | x. N images stand for x."""
    model, x = problems.linear_gaussian(), problems.images(N)
    found, q = measured(model, x), model.posterior(x)
    standard = Normal(torch.zeros(2), torch.ones(2))
    assert_near(found["rate"], kl_divergence(Normal(q.mean, q.scale), standard).sum(1))
    assert torch.equal(found["rate"], found["rate_1"])
    weight = model.likelihood.weight
    spread = (q.scale.square() @ weight.square().T).sum(1) / problems.NOISE_SCALE**2 / 2
    assert_near(found["distortion"], spread - model.likelihood(q.mean).log_prob(x))

    covariance = SD**2 * model.posterior.weight @ model.posterior.weight.T + q.scale[0].square().diag()
    exact = 0.5 * (covariance.logdet() - 2 * q.scale[0].log().sum())
    assert 0.3 < exact < 3
    finite = 3 * math.exp(exact) / N  # N images have less information than x, of the order of exp(I) / N
    assert_near(found["mutual_information_1"], exact, finite)
    marginal = MultivariateNormal(model.posterior.bias, covariance)
    assert_near(
        found["marginal_kl"], kl_divergence(marginal, MultivariateNormal(torch.zeros(2), torch.eye(2))), 0.1
    )
    rest = found["rate"] - found["mutual_information_1"] - found["marginal_kl"]
    assert_near(rest, 0.0)


@torch.no_grad()
def test_of_two_layers() -> None:
    x = SD * torch.randn(N, 1, generator=torch.Generator().manual_seed(1))
    found = measured(chain(), x, 100, 40)
    h_1 = x**2 + WIDTH_1**2  # E h_1^2 given x
    h_2 = UP**2 * h_1 + WIDTH_2**2
    rate_2 = (h_2 - 1) / 2 - math.log(WIDTH_2)
    cross = h_1 - 2 * DOWN * UP * h_1 + DOWN**2 * h_2  # E (h_1 - DOWN h_2)^2
    rate_1 = (cross / WIDTH**2 - 1) / 2 + math.log(WIDTH / WIDTH_1)
    assert_near(found["rate_1"], rate_1[:, 0])
    assert_near(found["rate_2"], rate_2[:, 0])
    torch.testing.assert_close(found["rate"], found["rate_1"] + found["rate_2"])
    information_1 = 0.5 * math.log(1 + SD**2 / WIDTH_1**2)
    given = UP**2 * WIDTH_1**2 + WIDTH_2**2
    information_2 = 0.5 * math.log(1 + UP**2 * SD**2 / given)
    assert_near(found["mutual_information_1"], information_1, 0.01)
    assert_near(found["mutual_information_2"], information_2, 0.02)  # 40 components stand for q(h_2 | x)
    spread = UP**2 * SD**2 + given
    assert_near(found["marginal_kl"], (spread - 1 - math.log(spread)) / 2, 0.02)


@torch.no_grad()
def test_of_a_semi_implicit_posterior() -> None:
    model, x = problems.semi_implicit_gaussian(), problems.images(400)
    found = measured(model, x, 20, 400)
    weight, given = model.posterior.weight, model.posterior.covariance()
    q = MultivariateNormal(x @ weight.T, given)
    assert_near(found["rate"], kl_divergence(q, MultivariateNormal(torch.zeros(2), torch.eye(2))), 0.02)
    exact = 0.5 * ((SD**2 * weight @ weight.T + given).logdet() - given.logdet())
    finite = 3 * math.exp(exact) / len(x)  # as above
    assert_near(found["mutual_information_1"], exact, finite + 0.02)


@torch.no_grad()
@pytest.mark.parametrize("num_components", [1, 2, 8])
def test_more_components_lower_the_information(num_components: int) -> None:
    """It is convex in q(h | x)."""
    x = SD * torch.randn(500, 1)
    few, many = (measured(chain(), x, 1, m)["mutual_information_2"].mean() for m in (num_components, 64))
    assert few > many + 0.01


@torch.no_grad()
@pytest.mark.parametrize(("make", "dim"), [(chain, 1), (problems.linear_gaussian, problems.X_DIM)])
def test_equal_images_are_not_told_apart(make: Any, dim: int) -> None:
    found = measured(make(), torch.ones(7, dim), 2, 3)
    torch.testing.assert_close(found["mutual_information_1"], torch.zeros(7))


@torch.no_grad()
@pytest.mark.parametrize(
    ("make", "dim"),
    [
        (chain, 1),
        (problems.linear_gaussian, problems.X_DIM),
        (problems.semi_implicit_gaussian, problems.X_DIM),
    ],
)
def test_images_far_apart_are_told_apart_in_every_layer(make: Any, dim: int) -> None:
    """Their number is all that there is to know."""
    found = measured(make(), 500 * torch.arange(7.0).unsqueeze(1).expand(7, dim), 2, 3)
    layers = [value for name, value in found.items() if name.startswith("mutual_information")]
    for value in layers:
        torch.testing.assert_close(value, torch.full((7,), math.log(7)))


@torch.no_grad()
def test_a_last_layer_that_ignores_the_one_below_it_has_collapsed() -> None:
    found = measured(chain(up=0.0, width=1.0), SD * torch.randn(300, 1), 2, 5)
    for name in ("rate_2", "mutual_information_2", "marginal_kl"):
        torch.testing.assert_close(found[name], torch.zeros(300))
    assert found["mutual_information_1"].mean() > 0.4


def test_another_posterior_is_refused_in_a_line() -> None:
    class Own(DiagonalNormal):
        pass

    model = problems.linear_gaussian()
    model.posterior = Made(lambda x: Own(x[:, :2], torch.ones_like(x[:, :2])))
    with pytest.raises(UserError, match=r"q\(z \| x\) is a .*Own: rate and mutual information need a Diag"):
        measured(model, problems.images(3))
