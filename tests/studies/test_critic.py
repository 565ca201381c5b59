"""The critic-weighted objective: what each encoder update and each target does in expectation, in closed form.

(a) and (b) of the design are tested without a bound and without warm-up, which change the expectations.
"""

import problems
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, kl_divergence

from evidence.models import LatentVariableModel
from evidence.objectives import CriticWeighted

pytestmark = pytest.mark.usefixtures("float64")

COUNT = 4
REPEATS = 3000


class Table(nn.Module):
    """A critic with one free value for each of the images it is always given."""

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.values = nn.Parameter(values.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        return self.values


def objective(
    encoder: str, target: str, values: Tensor, bound: float | None = None, k: int = 2
) -> CriticWeighted:
    """C(x) = values exactly: b = 0, s = 1, not tracked."""
    made = CriticWeighted(k, encoder, target, bound, 0, Table(values))  # type: ignore[arg-type]
    made.num_steps += 1
    made.MOMENTUM = 1.0  # type: ignore[misc]
    return made


def problem() -> tuple[LatentVariableModel, Tensor, Tensor]:
    """The model, images, and a critic that is off by a different amount for each."""
    model, x = problems.linear_gaussian(), problems.images(COUNT)
    values = problems.exact_log_evidence(model, x).detach() + torch.tensor([0.4, -0.3, 0.1, -0.6])
    return model, x, values


def exact_gradients(model: LatentVariableModel, x: Tensor, values: Tensor, encoder: str) -> dict[str, Tensor]:
    log_p = problems.exact_log_evidence(model, x)
    factor = (log_p - values).exp().detach()
    exact = problems.gradients((factor * log_p).mean(), model)  # decoder
    if encoder == "elbo":
        gradient = problems.gradients(problems.exact_elbo(model, x).mean(), model)
    elif (
        encoder == "path"
    ):  # the wake-phase update: minus the gradient of KL(p(z | x) || q(z | x)), times the factor
        weight = model.likelihood.weight.detach()
        covariance = torch.linalg.inv(torch.eye(2) + weight.T @ weight / problems.NOISE_SCALE**2)
        mean = (x - model.likelihood.bias.detach()) @ weight / problems.NOISE_SCALE**2 @ covariance
        q = model.posterior(x)
        kl = kl_divergence(
            MultivariateNormal(mean, covariance),
            MultivariateNormal(q.mean, torch.diag_embed(q.scale.square())),
        )
        gradient = problems.gradients(-(factor * kl).mean(), model)
    else:  # literal: E_q[w grad log w] is the gradient of p(x) with respect to the encoder
        gradient = {name: torch.zeros_like(value) for name, value in exact.items()}
    return exact | {name: value for name, value in gradient.items() if name.startswith("posterior")}


@pytest.mark.parametrize("encoder", ["literal", "elbo", "path"])
def test_the_expected_update_is_the_closed_form(encoder: str) -> None:
    model, x, values = problem()
    made = objective(encoder, "evidence", values)
    draws = problems.gradient_draws(lambda: made(model, x), model, REPEATS)
    for name, exact in exact_gradients(model, x, values, encoder).items():
        assert problems.deviation(draws[name], exact) < 5, name


def test_the_three_encoder_updates_are_told_apart() -> None:
    model, x, values = problem()
    for encoder in ("literal", "elbo", "path"):
        made = objective(encoder, "evidence", values)
        draws = problems.gradient_draws(lambda made=made: made(model, x), model, REPEATS)
        for other in {"literal", "elbo", "path"} - {encoder}:
            exact = exact_gradients(model, x, values, other)["posterior.bias"]
            assert problems.deviation(draws["posterior.bias"], exact) > 5, (encoder, other)


def critic_gradient(target: str, at: str) -> float:
    """How many standard errors the critic's mean gradient is from zero where C is E log w, or log E w."""
    model, x, _ = problem()
    exact = {"elbo": problems.exact_elbo, "evidence": problems.exact_log_evidence}[at](model, x)
    made = objective("path", target, exact)
    draws = problems.gradient_draws(lambda: made(model, x), made, REPEATS)["critic.values"]
    return problems.deviation(draws, torch.zeros(COUNT))


@pytest.mark.parametrize(("target", "other"), [("elbo", "evidence"), ("evidence", "elbo")])
def test_each_target_is_fitted_by_its_own_expectation(target: str, other: str) -> None:
    assert critic_gradient(target, at=target) < 5
    assert critic_gradient(target, at=other) > 5


def test_weights_against_the_elbo_are_too_large_by_the_exponential_of_the_kl() -> None:
    model, x, _ = problem()
    elbo, log_p = problems.exact_elbo(model, x).detach(), problems.exact_log_evidence(model, x).detach()
    for values, expected in ((elbo, (log_p - elbo).exp().mean()), (log_p, torch.tensor(1.0))):
        made = objective("path", "elbo", values)
        draws = torch.stack([made(model, x).metrics["critic/weight"] for _ in range(REPEATS)])
        assert problems.deviation(draws, expected) < 5


def test_the_clipped_loss_pulls_c_up_by_a_bounded_force() -> None:
    """dloss/dC = 1 - exp(min(log w - C, bound)): zero only at w = exp(C), and never above the bound's."""
    model, x, values = problem()
    bound = 0.5
    for offset in (-30.0, 0.0, 30.0):
        made = objective("path", "evidence", values - offset, bound=bound, k=1)
        torch.manual_seed(2)
        surrogate, metrics = made(model, x)
        torch.manual_seed(2)
        excess = model.log_weights(x, 1)[0].detach() - (values - offset)
        expected = excess.clamp(max=bound).exp() - 1  # the surrogate is ascended: minus the loss
        torch.testing.assert_close(problems.gradients(surrogate.sum(), made)["critic.values"], expected)
        torch.testing.assert_close(metrics["critic/weight"], excess.clamp(max=bound).exp().mean())
        torch.testing.assert_close(metrics["critic/clipped_fraction"], (excess > bound).double().mean())


def test_clipping_gives_the_literal_form_an_encoder_gradient() -> None:
    model, x, values = problem()
    made = objective("literal", "evidence", values, bound=0.1)
    draws = problems.gradient_draws(lambda: made(model, x), model, REPEATS)
    assert problems.deviation(draws["posterior.log_scale"], torch.zeros(2)) > 5


def test_model_and_critic_do_not_feel_each_others_terms() -> None:
    model, x, values = problem()

    def gradient(encoder: str, target: str, of: str) -> dict[str, Tensor]:
        made = objective(encoder, target, values)
        torch.manual_seed(4)
        module = model if of == "model" else made
        return problems.gradients(made(model, x).surrogate.sum(), module)

    for name, value in gradient("path", "elbo", "model").items():
        torch.testing.assert_close(value, gradient("path", "evidence", "model")[name])
    for encoder in ("literal", "elbo"):
        for name, value in gradient("path", "evidence", "critic").items():
            torch.testing.assert_close(value, gradient(encoder, "evidence", "critic")[name])


def test_warm_up_gives_every_weight_one_and_then_ends() -> None:
    model, x, values = problem()
    made = CriticWeighted(3, "literal", "evidence", 3.0, 2, Table(values))
    seen = []
    for _ in range(4):
        torch.manual_seed(6)
        found = problems.gradients(made(model, x).surrogate.sum(), model)
        torch.manual_seed(6)
        elbo = problems.gradients(model.log_weights(x, 3).mean(0).sum(), model)
        seen.append(all(torch.allclose(found[name], elbo[name]) for name in elbo))
    assert seen == [True, True, False, False]


def test_the_baseline_starts_at_the_first_batch_and_lags_behind_each_sample() -> None:
    """C(x) must not depend on the z it weighs, but for the very first step, which has weight one in warm-up."""
    model, x, _ = problem()
    made = CriticWeighted(3, "path", "evidence", 3.0, 2, Table(torch.zeros(COUNT)))
    torch.manual_seed(6)
    made(model, x)
    torch.manual_seed(6)
    log_w = model.log_weights(x, 3).detach()
    torch.testing.assert_close(made.shift, log_w.mean())
    before, deviation = made.shift.clone(), made.scale.clone()
    torch.manual_seed(7)
    excess = made(model, x).metrics["critic/excess"]
    torch.manual_seed(7)
    log_w = model.log_weights(x, 3).detach()
    torch.testing.assert_close(excess, log_w.mean() - before)
    torch.testing.assert_close(made.shift, 0.99 * before + 0.01 * log_w.mean())
    assert deviation >= 1.0
