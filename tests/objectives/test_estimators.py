"""What estimators are in expectation: unbiased for which gradient, and how far from it, on exactly known problems."""

import problems
import pytest
import torch
from objective_cases import WEIGHTED, two_layers
from torch import Tensor
from torch.distributions import MultivariateNormal

from evidence.models import LatentVariableModel
from evidence.objectives import ELBO, IWAE, RWS, STL, TVO, VRIWAE, DReG, Objective, RWSDReG

pytestmark = pytest.mark.usefixtures("float64")

X = (problems.images(3) > 0).double()
COPIES, REPEATS = 100, 80  # of each image in a batch, and batches
MODELS = {"one": problems.linear_gaussian, "two": two_layers}
Draws = dict[str, Tensor]


def draws(objective: Objective, model: LatentVariableModel, x: Tensor = X, repeats: int = REPEATS) -> Draws:
    many = x.repeat(COPIES, 1)
    return problems.gradient_draws(lambda: objective(model, many), model, repeats)


def worst(one: Draws, other: Draws, part: str = "") -> float:
    """The largest difference of two means, in its standard errors."""
    found = [0.0]
    for name, value in one.items():
        if name.startswith(part):
            error = (value.var(0) / len(value) + other[name].var(0) / len(other[name])).sqrt()
            found.append(float(((value.mean(0) - other[name].mean(0)).abs() / error.clamp(min=1e-12)).max()))
    return max(found)


def from_exact(found: Draws, exact: dict[str, Tensor], part: str = "") -> float:
    return max(problems.deviation(found[name], exact[name]) for name in exact if name.startswith(part))


@pytest.mark.parametrize("layers", MODELS)
def test_dregs_encoder_gradient_is_the_iwaes_on_average_and_stls_is_not(layers: str) -> None:
    model = MODELS[layers]()
    iwae = draws(IWAE(5), model, repeats=3 * REPEATS)
    assert worst(draws(DReG(5), model), iwae) < 5
    assert worst(draws(STL(5), model), iwae, "posterior") > 8


@pytest.mark.parametrize("layers", MODELS)
def test_rws_dregs_encoder_gradient_is_the_wake_phases_on_average(layers: str) -> None:
    model = MODELS[layers]()
    wake = draws(RWS(5, "wake"), model, repeats=3 * REPEATS)
    assert worst(draws(RWSDReG(5), model), wake) < 5
    assert worst(draws(DReG(5), model), wake, "posterior") > 8


@pytest.mark.parametrize("alpha", [0.3, 0.8])
def test_both_gradients_of_vr_iwae_are_the_same_on_average(alpha: float) -> None:
    model = two_layers()
    bound = draws(VRIWAE(5, alpha, False), model, repeats=3 * REPEATS)
    assert worst(draws(VRIWAE(5, alpha, True), model), bound) < 5
    assert worst(draws(DReG(5), model), bound, "posterior") > 5


@pytest.mark.parametrize("objective", [STL(1), DReG(1), TVO(6, 1, None)], ids=["stl", "dreg", "tvo"])
def test_the_elbos_gradient_on_average(objective: Objective) -> None:
    """STL and DReG of one sample, and TVO of one point, whose covariance has no bias."""
    model = problems.linear_gaussian()
    exact = problems.gradients(problems.exact_elbo(model, X).mean(), model)
    assert from_exact(draws(objective, model), exact) < 5


@pytest.mark.parametrize(
    "objective", [STL(5), DReG(5), RWSDReG(5), VRIWAE(5, 0.3, True)], ids=lambda o: type(o).__name__
)
def test_without_the_score_the_encoders_gradient_vanishes_at_the_exact_posterior(
    objective: Objective,
) -> None:
    """For every draw: log w is a constant of z. The IWAE's has variance there."""
    model = problems.with_exact_posterior()
    found, plain = (
        problems.gradients(each(model, X).surrogate.sum(), model.posterior) for each in (objective, IWAE(5))
    )
    assert max(float(value.abs().max()) for value in found.values()) < 1e-12
    assert max(float(value.abs().max()) for value in plain.values()) > 0.01


def test_the_wake_phase_of_one_sample_has_no_mean() -> None:
    model = problems.linear_gaussian()
    zero = {name: torch.zeros_like(value) for name, value in model.named_parameters()}
    assert from_exact(draws(RWS(1, "wake"), model), zero, "posterior") < 5
    assert from_exact(draws(RWS(2, "wake"), model), zero, "posterior") > 8


def correlated() -> tuple[LatentVariableModel, Tensor]:
    """The posterior is correlated (0.3), and q has its mean and its marginal variances. Images of the model."""
    model = problems.linear_gaussian()
    with torch.no_grad():
        model.likelihood.weight[:, 1] += 0.25 * model.likelihood.weight[:, 0]
        weight, bias = model.likelihood.weight, model.likelihood.bias
        covariance = torch.linalg.inv(torch.eye(problems.Z_DIM) + weight.T @ weight / problems.NOISE_SCALE**2)
        model.posterior.weight.copy_(covariance @ weight.T / problems.NOISE_SCALE**2)
        model.posterior.bias.copy_(-model.posterior.weight @ bias)
        model.posterior.log_scale.copy_(covariance.diagonal().log() / 2)
        marginal = weight @ weight.T + problems.NOISE_SCALE**2 * torch.eye(problems.X_DIM)
        x = MultivariateNormal(bias, marginal).sample((20,))
    return model, x


def test_a_mean_field_encoder_rests_at_the_marginal_variances_in_the_sleep_phase() -> None:
    """Not at those of the ELBO, the inverse of the precision's diagonal."""
    model, x = correlated()
    zero = {name: torch.zeros_like(value) for name, value in model.named_parameters()}
    assert from_exact(draws(RWS(2, "sleep"), model, x), zero, "posterior") < 5
    assert from_exact(draws(ELBO(1), model, x), zero, "posterior.log_scale") > 20


def test_the_wake_phase_approaches_the_marginal_variances_as_1_over_k() -> None:
    model, x = correlated()
    few, many = (draws(RWS(k, "wake"), model, x, 40)["posterior.log_scale"].sum(1) for k in (16, 64))
    assert many.mean() < -5 * many.std() / 40**0.5  # narrower than the marginals
    assert 3 < few.mean() / many.mean() < 4.5  # 4, and as 1/sqrt(k) it were 2


def exact_tvo(model: LatentVariableModel, x: Tensor, beta: list[float]) -> Tensor:
    """sum_j d_j E_{pi_j} log w with pi_j Gaussian, [B]; differentiable in every parameter."""
    weight, bias, q = model.likelihood.weight, model.likelihood.bias, model.posterior(x)
    joint = torch.eye(problems.Z_DIM) + weight.T @ weight / problems.NOISE_SCALE**2
    precision_q = torch.diag(q.scale[0] ** -2)
    shift_p, shift_q = (x - bias) @ weight / problems.NOISE_SCALE**2, q.mean * q.scale**-2
    total = torch.zeros(x.shape[0])
    for low, high in zip(beta, [*beta[1:], 1.0], strict=True):
        covariance = torch.linalg.inv(low * joint + (1 - low) * precision_q)
        mean = (low * shift_p + (1 - low) * shift_q) @ covariance
        # E of a quadratic function: its value at the mean, and half the trace of its curvature with the covariance.
        log_w = model.log_joint(x, mean.unsqueeze(0))[0] - q.log_prob(mean)
        log_w = log_w - 0.5 * torch.trace((joint - precision_q) @ covariance)
        total = total + (high - low) * log_w
    return total


def test_tvos_gradient_tends_to_that_of_the_exact_sum_as_1_over_k() -> None:
    model, beta = problems.with_exact_posterior(), [0.0, 0.25, 0.5, 0.75]
    with torch.no_grad():
        model.posterior.log_scale.add_(0.3)  # q is wider than the posterior, so that weights are bounded
    exact = problems.gradients(exact_tvo(model, X, beta).mean(), model)
    found = {k: draws(TVO(k, 4, None), model, repeats=60) for k in (4, 16, 128)}
    distance = {
        k: sum(float((each[name].mean(0) - exact[name]).square().sum()) for name in exact) ** 0.5
        for k, each in found.items()
    }
    assert distance[4] > 3 * distance[16] > 9 * distance[128], distance
    assert from_exact(found[128], exact) < 5
    value = torch.stack([TVO(512, 4, None)(model, X).metrics["tvo"] for _ in range(400)])
    assert abs(value.mean() - exact_tvo(model, X, beta).mean()) < 5 * value.std() / 20


@pytest.mark.parametrize("name", ["dreg", "rws, wake", "piwae", "tvo", "vr_iwae"])
def test_few_samples_backward_have_the_full_gradient_on_average(name: str) -> None:
    model = two_layers()
    full = draws(WEIGHTED[name](None), model, repeats=2 * REPEATS)
    for num_exact in (0, 2):
        assert worst(draws(WEIGHTED[name](num_exact), model), full) < 5
