"""UIVI's reverse conditional by importance samples: its estimator to rounding, its bias of order 1/S, and its fit."""

import problems
import pytest
import torch
from torch import Tensor

from evidence.distributions import SemiImplicit
from evidence.models import LatentVariableModel
from evidence.networks import ReverseProposal
from evidence.numerics import log_mean_exp
from evidence.objectives import UIVI
from evidence.objectives.reverse_conditional import ImportanceSampler, LearnedSampler
from evidence.training import parameter_groups

pytestmark = pytest.mark.usefixtures("float64")

X = problems.images(3).double()


def problem() -> LatentVariableModel:
    """Its reverse conditional is a diagonal Gaussian, with a mean that is linear in z and x."""
    model = problems.semi_implicit_gaussian()
    with torch.no_grad():
        model.posterior.mixing.copy_(torch.tensor([[0.5, 0.0, 0.0], [0.0, 0.4, 0.0]]))
    return model


def exact_proposal() -> ReverseProposal:
    """q(eps | z, x) of `problem`."""
    posterior, proposal = problem().posterior, ReverseProposal(2, 4, 3, [], "tanh")
    with torch.no_grad():
        scaled = (posterior.mixing / (2 * posterior.log_scale).exp()[:, None]).T  # M' / sigma^2, [E, D]
        variance = 1 / (1 + (scaled @ posterior.mixing).diagonal())
        of_z = variance[:, None] * scaled
        proposal.normal.mean.weight.copy_(torch.cat([of_z, -of_z @ posterior.weight], 1))
        proposal.normal.log_scale.weight.zero_()
        proposal.normal.log_scale.bias.copy_(variance.log() / 2)
    return proposal


def wrong_proposal() -> ReverseProposal:
    """Wider than the exact one, so that weights are bounded, and with another dependence on z."""
    proposal = exact_proposal()
    with torch.no_grad():
        proposal.normal.log_scale.bias.add_(0.5)
        proposal.normal.mean.weight.mul_(0.5)
    return proposal


def draws(objective: UIVI, model: LatentVariableModel, repeats: int, copies: int) -> dict[str, Tensor]:
    many = X.repeat(copies, 1)
    return problems.gradient_draws(lambda: objective(model, many), model, repeats)


def test_importance_samples_give_the_path_gradient_of_a_mixture() -> None:
    """grad_z of log-mean-exp over eps' of q(z | eps', x), with q's parameters fixed, through dz/dtheta."""
    model, posterior = problems.semi_implicit_gaussian(), problems.semi_implicit_gaussian().posterior
    torch.manual_seed(8)
    found = problems.gradients(UIVI(3, ImportanceSampler(6))(model, X).surrogate.sum(), model)
    torch.manual_seed(8)
    q = model.posterior(X)
    eps = q.noise(3)
    z = q.rsample(eps)
    drawn = torch.randn(6, *eps.shape)
    log_q = log_mean_exp(posterior(X).conditional(drawn).log_prob(z))  # by a copy of the posterior
    expected = problems.gradients((model.log_joint(X, z) - log_q).mean(0).sum(), model)
    for name in expected:
        torch.testing.assert_close(found[name], expected[name])


@pytest.mark.parametrize("kind", ["importance", "learned"])
def test_the_bias_falls_as_1_over_the_samples(kind: str) -> None:
    model = problem()
    exact = problems.gradients(problems.exact_elbo(model, X).mean(), model)["posterior.log_scale"][1]

    def bias(num_samples: int) -> tuple[float, float]:
        sampler = (
            ImportanceSampler(num_samples)
            if kind == "importance"
            else LearnedSampler(num_samples, 1.0, wrong_proposal())
        )
        found = draws(UIVI(1, sampler), model, 40, 1000)["posterior.log_scale"][:, 1] - exact
        return float(found.mean()), float(found.std() / 40**0.5)

    (few, _), (many, error) = (bias(count) for count in ((16, 64) if kind == "importance" else (4, 16)))
    assert abs(many) > 5 * error
    assert few / many == pytest.approx(4, rel=0.3)


def test_the_exact_reverse_conditional_as_the_proposal_has_equal_weights_and_no_bias() -> None:
    model, objective = problem(), UIVI(1, LearnedSampler(2, 1.0, exact_proposal()))
    estimate = objective(model, X)
    assert estimate.metrics["reverse/effective_sample_size"] == pytest.approx(2)
    exact = problems.gradients(problems.exact_elbo(model, X).mean(), model)
    found = draws(objective, model, 100, 100)
    assert max(problems.deviation(found[name], exact[name]) for name in exact) < 5


def test_the_proposal_is_fitted_to_the_reverse_conditional_beside_the_model() -> None:
    model, proposal = problem(), ReverseProposal(2, 4, 3, [], "tanh")
    objective, many = UIVI(1, LearnedSampler(2, 1.0, proposal)), problems.images(500)
    optimizer = torch.optim.Adam(objective.parameters())
    for step in range(1000):
        optimizer.param_groups[0]["lr"] = 0.05 * 0.996**step
        optimizer.zero_grad()
        (-objective(model, many).surrogate.mean()).backward()
        optimizer.step()
    q = model.posterior(many)
    z = q.rsample(q.noise(1))
    found, exact = proposal(z, many), exact_proposal()(z, many)
    assert (found.mean - exact.mean).abs().mean() < 0.05 * exact.mean.abs().mean()
    assert (found.scale - exact.scale).abs().mean() < 0.05


def test_proposal_and_model_do_not_feel_each_others_gradients() -> None:
    model, sampler = problem(), LearnedSampler(5, 0.1, wrong_proposal())
    torch.manual_seed(2)
    surrogate = UIVI(2, sampler)(model, X).surrogate.sum()
    of_model, of_proposal = problems.gradients(surrogate, model), problems.gradients(surrogate, sampler)
    torch.manual_seed(2)
    q = model.posterior(X)
    eps = q.noise(2)
    z = q.rsample(eps)
    log_tau = sampler.proposal(z.detach(), X).log_prob(eps)
    for name, value in problems.gradients(log_tau.mean(0).sum(), sampler).items():
        torch.testing.assert_close(of_proposal[name], value)

    class Deaf(LearnedSampler):
        def forward(self, q: SemiImplicit, z: Tensor, eps: Tensor, x: Tensor):  # type: ignore[no-untyped-def]
            return super().forward(q, z, eps, x)._replace(ascended=None)

    torch.manual_seed(2)
    alone = problems.gradients(UIVI(2, Deaf(5, 0.1, sampler.proposal))(model, X).surrogate.sum(), model)
    for name, value in alone.items():
        torch.testing.assert_close(of_model[name], value)


def test_the_proposal_has_a_learning_rate_of_its_own() -> None:
    model, objective = problems.semi_implicit_gaussian(), UIVI(1, LearnedSampler(5, 0.1, exact_proposal()))
    groups = parameter_groups(model, objective, 0.2)
    rates = {name: group["rate"] for group in groups for name, _ in group["params"]}  # type: ignore[attr-defined]
    assert all((rate == 0.1) == name.startswith("objective.") for name, rate in rates.items())
    assert len(rates) == sum(1 for part in (model, objective) for _ in part.parameters())
