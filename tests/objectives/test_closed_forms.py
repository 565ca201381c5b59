"""Closed forms are those of the distributions at hand, and refused where these are others."""

import math
from collections.abc import Callable
from typing import Any

import problems
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Independent, MultivariateNormal, Normal

from evidence import evaluation, hmc
from evidence.distributions import Chain, DiagonalNormal, SemiImplicit, kl_divergence
from evidence.errors import UserError
from evidence.models import LatentVariableModel
from evidence.networks import Critic, SemiImplicitPosterior
from evidence.objectives import ELBO, IWAE, SIVI, UIVI, CriticWeighted, Objective
from evidence.objectives.reverse_conditional import HMCSampler, target

pytestmark = pytest.mark.usefixtures("float64")

Z_DIM = problems.Z_DIM


class DiagonalPrior(nn.Module):
    """A prior that is learned."""

    def __init__(self, kind: type[DiagonalNormal] = DiagonalNormal) -> None:
        super().__init__()
        self.kind = kind
        self.mean = nn.Parameter(torch.tensor([2.0, -3.0]))
        self.log_scale = nn.Parameter(torch.tensor([-1.0, 0.7]))

    def forward(self) -> DiagonalNormal:
        return self.kind(self.mean, self.log_scale.exp())


class Squared(DiagonalNormal):
    """Of the same fields, and another density."""

    def log_prob(self, z: Tensor) -> Tensor:
        return super().log_prob(z).square()


class MixturePrior(nn.Module):
    def forward(self) -> torch.distributions.MixtureSameFamily:
        components = Independent(Normal(torch.tensor([[-6.0, 0.0], [6.0, 0.0]]), 1.0), 1)
        return torch.distributions.MixtureSameFamily(
            torch.distributions.Categorical(torch.ones(2)), components
        )


@pytest.mark.parametrize("shapes", [((5, 3), (5, 3), (3,)), ((4, 5, 3), (3,), (5, 3)), ((5, 3), (1,), (1,))])
def test_the_kl_of_two_normals_is_torchs(shapes: tuple[tuple[int, ...], ...]) -> None:
    mean, scale, prior = (torch.randn(shape) for shape in shapes)
    q, p = DiagonalNormal(mean, scale.exp()), DiagonalNormal(prior, (2 * prior).exp())

    def torchs(normal: DiagonalNormal) -> Independent:
        return Independent(Normal(*(each.expand(mean.shape) for each in normal)), 1)

    expected = torch.distributions.kl_divergence(torchs(q), torchs(p))
    torch.testing.assert_close(kl_divergence(q, p), expected)
    z, log_q = q.rsample_and_log_prob(q.noise(20_000))
    assert problems.deviation(log_q - p.log_prob(z), expected) < 5


def test_the_kl_from_a_standard_normal_is_kingma_and_wellings_to_rounding() -> None:
    mean, scale = torch.randn(5, 3), torch.rand(5, 3) + 0.1
    expected = (0.5 * (mean.square() + scale.square() - 1) - scale.log()).sum(-1)
    found = kl_divergence(DiagonalNormal(mean, scale), DiagonalNormal(torch.zeros(3), torch.ones(3)))
    torch.testing.assert_close(found, expected, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("kl", ["analytic", "sampled"])
def test_the_elbo_with_a_learned_prior_is_the_closed_form_with_its_gradient(kl: Any) -> None:
    """E log p(x, z) - E log q of Gaussians alone: a quadratic form each."""
    model, x = problems.linear_gaussian(), problems.images(5)
    model.prior = DiagonalPrior()

    def exact() -> Tensor:
        q, p, weight = model.posterior(x), model.prior(), model.likelihood.weight
        residual = x - model.likelihood.bias - q.mean @ weight.T
        spread = (q.scale.square() @ weight.square().T + residual.square()) / problems.NOISE_SCALE**2
        log_likelihood = -0.5 * spread.sum(-1) - problems.X_DIM * (
            math.log(problems.NOISE_SCALE) + 0.5 * math.log(2 * math.pi)
        )
        ratio = q.scale / p.scale
        shift = (q.mean - p.mean) / p.scale
        return (log_likelihood - (0.5 * (ratio**2 + shift**2 - 1) - ratio.log()).sum(-1)).mean()

    draws = torch.stack([ELBO(1, kl)(model, x).surrogate.detach() for _ in range(3000)])
    assert abs(draws.mean() - exact()) < 5 * draws.mean(1).std() / 3000**0.5
    expected = problems.gradients(exact(), model)
    found = problems.gradient_draws(lambda: ELBO(1, kl)(model, x), model, 1500)
    for name, value in expected.items():
        assert problems.deviation(found[name], value) < 5, name


class ChainOfOne(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *x: Tensor) -> Chain:
        return Chain(self.inner(*x), [], [Z_DIM])


class AsSquared(ChainOfOne):
    def forward(self, *x: Tensor) -> Squared:
        return Squared(*self.inner(*x))


@pytest.mark.parametrize(
    ("where", "change", "words"),
    [
        ("prior", lambda prior: MixturePrior(), r"DiagonalNormal and p\(z\) a torch\.distributions.*MixtureSameFamily"),
        ("prior", lambda prior: DiagonalPrior(Squared), r"a DiagonalNormal and p\(z\) a test_closed_forms\.Squared"),
        ("prior", ChainOfOne, r"a DiagonalNormal and p\(z\) a Chain"),
        ("posterior", ChainOfOne, r"a Chain and p\(z\) a DiagonalNormal"),
        ("posterior", AsSquared, r"a test_closed_forms\.Squared and p\(z\) a DiagonalNormal"),
    ],
)  # fmt: skip
def test_the_analytic_kl_refuses_other_types_and_names_both(
    where: str, change: Callable[[nn.Module], nn.Module], words: str
) -> None:
    model, x = problems.linear_gaussian(), problems.images(5)
    setattr(model, where, change(getattr(model, where)))
    with pytest.raises(UserError, match=rf"^objective\.kl=analytic .*{words}: choose objective\.kl=sampled$"):
        ELBO(2, "analytic")(model, x)
    if where == "prior":
        assert ELBO(2)(model, x).surrogate.shape == (5,)


@pytest.mark.parametrize(
    "scale", [torch.tensor(0.4), torch.tensor([0.4]), torch.tensor([[0.4], [0.4], [0.7]])]
)
def test_a_scale_for_all_dimensions_counts_once_for_each(scale: Tensor) -> None:
    mean = torch.randn(3, 6)
    q, expected = DiagonalNormal(mean, scale), DiagonalNormal(mean, scale.expand(3, 6))
    torch.manual_seed(1)
    z, log_q = q.rsample_and_log_prob(q.noise(4))
    torch.manual_seed(1)
    torch.testing.assert_close((z, log_q), expected.rsample_and_log_prob(expected.noise(4)))
    torch.testing.assert_close(q.log_prob(z), log_q)


def test_a_mean_for_all_dimensions_has_noise_in_each() -> None:
    q = DiagonalNormal(torch.zeros(3, 1), torch.tensor([0.5, 2.0]))
    z, log_q = q.rsample_and_log_prob(q.noise(4))
    assert z.shape == (4, 3, 2)
    expected = Independent(Normal(torch.zeros(2), torch.tensor([0.5, 2.0])), 1).log_prob(z)
    torch.testing.assert_close(log_q, expected)
    assert not torch.allclose(z[..., 0] * 4, z[..., 1])
    assert q.expectation(1).shape == (3, 2)


class ScaledByImage(problems.LinearSemiImplicitPosterior):
    """z = A x + M eps + s(x) u: each image has a sigma of its own."""

    def scale_of(self, x: Tensor) -> Tensor:
        return self.log_scale.exp() * (1 + x[:, :Z_DIM].square())

    def forward(self, x: Tensor) -> SemiImplicit:
        return super().forward(x)._replace(scale=self.scale_of(x))


def scaled_by_image() -> LatentVariableModel:
    model = problems.fitting_semi_implicit_gaussian()
    state, model.posterior = model.posterior.state_dict(), ScaledByImage()
    model.posterior.load_state_dict(state)
    return model


@torch.no_grad()
def test_scores_of_a_posterior_with_a_scale_for_each_image_are_exact() -> None:
    model, x = scaled_by_image(), problems.images(4)
    exact, q = problems.exact_log_evidence(model, x), model.posterior(x)
    draws = [evaluation.score_semi_implicit(model, x, 5, 4, 300)._asdict() for _ in range(3000)]
    for name in "mixture", "gaussian":
        assert (
            problems.deviation(torch.stack([(draw[name] - exact).exp() for draw in draws]), torch.ones(4)) < 5
        )
    means = q.mean(q.noise(100_000))
    z = q.rsample(q.noise(3))
    covariance = model.posterior.mixing @ model.posterior.mixing.T + torch.diag_embed(q.scale.square())
    marginal = MultivariateNormal(x @ model.posterior.weight.T, covariance)
    log_q = evaluation.log_mixture(z, means, q.scale, 2**20) - math.log(100_000)
    torch.testing.assert_close(log_q, marginal.log_prob(z), rtol=0.02, atol=0.02)
    fitted = evaluation.widened_gaussian(means, q.scale).covariance_matrix
    torch.testing.assert_close(fitted, 1.3 * covariance, rtol=0.03, atol=0.02)


def test_the_reverse_conditional_of_a_scale_for_each_image_is_differentiated_right() -> None:
    posterior = SemiImplicitPosterior(problems.X_DIM, 3, [5], Z_DIM, "tanh", 0.5, 1e-5)
    q = posterior(problems.images(4))
    q = q._replace(scale=torch.rand(4, Z_DIM) + 0.2)
    eps = q.noise(2)
    z = q.rsample(eps).detach()
    value, gradient = target(q, z)(eps)
    by_formula = hmc.differentiated(lambda eps: -0.5 * eps.square().sum(-1) + q.conditional(eps).log_prob(z))
    expected, expected_gradient = by_formula(eps)
    torch.testing.assert_close(gradient, expected_gradient)
    offset = expected - value
    torch.testing.assert_close(offset, offset[:1].expand_as(offset))  # a constant for each image


class Heavy(SemiImplicit):
    """Of the same fields, and not Gaussian given eps."""

    def conditional(self, eps: Tensor) -> Any:
        return Squared(self.mean(eps), self.scale)


def returning(change: Callable[[Any], object], model: LatentVariableModel) -> LatentVariableModel:
    """The model with another thing in the place of its q(z | x)."""
    model.posterior.register_forward_hook(lambda module, inputs, q: change(q))
    return model


OBJECTIVES: dict[str, Callable[[], Objective]] = {
    "vae": lambda: ELBO(2),
    "iwae": lambda: IWAE(3),
    "iwae, top": lambda: IWAE(5, 2),
    "critic": lambda: CriticWeighted(1, "path", "evidence", 3.0, 0, Critic(problems.X_DIM, [3], "tanh")),
    "uivi": lambda: UIVI(1, HMCSampler(1, 1, 2, 0.1, 0.9, 0.01)),
    "sivi": lambda: SIVI(1, 3),
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_objective_names_the_posterior_that_it_needs(name: str) -> None:
    x, without_density = problems.images(3), name in ("uivi", "sivi")
    explicit, implicit = problems.linear_gaussian(), problems.semi_implicit_gaussian()
    others = {
        "torch.distributions.independent.Independent": returning(
            lambda q: Independent(Normal(*q), 1), problems.linear_gaussian()
        ),
        "DiagonalNormal" if without_density else "SemiImplicit": explicit if without_density else implicit,
    }
    if without_density:
        others["test_closed_forms.Heavy"] = returning(lambda q: Heavy(*q), problems.semi_implicit_gaussian())
    needed = "SemiImplicit itself" if without_density else "a posterior with a density is needed"
    for kind, model in others.items():
        with pytest.raises(UserError, match=rf"^q\(z \| x\) is a {kind}.*{needed}"):
            OBJECTIVES[name]()(model, x)


@torch.no_grad()
def test_scores_name_the_posterior_that_they_need() -> None:
    x = problems.images(3)
    heavy = returning(lambda q: Heavy(*q), problems.semi_implicit_gaussian())
    torchs = returning(lambda q: Independent(Normal(*q), 1), problems.linear_gaussian())
    for model in heavy, torchs:
        with pytest.raises(UserError, match=r"^q\(z \| x\) is a "):
            evaluation.evaluate(model, x, evaluation.SemiImplicitSampling(2, 2, 10), lambda _: None)
    with pytest.raises(UserError, match="SemiImplicit itself"):
        evaluation.score_semi_implicit(problems.linear_gaussian(), x, 2, 2, 10)
    with pytest.raises(UserError, match="a density is needed"):
        evaluation.score(problems.semi_implicit_gaussian(), x, 2, 10)


def test_a_gaussian_is_fitted_to_two_noises_and_not_to_one() -> None:
    fitted = evaluation.widened_gaussian(torch.tensor([[[0.0, 0.0]], [[2.0, 4.0]]]), torch.full((2,), 0.5))
    assert fitted.loc.tolist() == [[1.0, 2.0]]
    covariance = 1.3 * torch.tensor([[[2.25, 4.0], [4.0, 8.25]]])
    torch.testing.assert_close(fitted.covariance_matrix, covariance)
    with pytest.raises(UserError, match=r"^eval\.semi_implicit\.noises=1: .* at least 2$"):
        evaluation.score_semi_implicit(problems.semi_implicit_gaussian(), problems.images(3), 2, 1, 10)
