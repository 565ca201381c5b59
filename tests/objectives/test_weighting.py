"""Objectives that weigh samples, to rounding: each against its paper's formula, one sample at a time."""

from collections.abc import Callable

import problems
import pytest
import torch
import weighted_reference
from objective_cases import WEIGHTED, two_layers
from torch import Tensor

from evidence.models import LatentVariableModel
from evidence.numerics import log_mean_exp
from evidence.objectives import (
    CIWAE,
    ELBO,
    IWAE,
    MIWAE,
    PIWAE,
    RWS,
    STL,
    TVO,
    VRIWAE,
    DReG,
    Objective,
    Weighted,
)
from evidence.objectives.weighting import Weights, sketch

pytestmark = pytest.mark.usefixtures("float64")

MODELS: dict[str, Callable[[], LatentVariableModel]] = {"one": problems.linear_gaussian, "two": two_layers}
X = (problems.images(3) > 0).double()


def gradient(objective: Objective, model: LatentVariableModel, seed: int = 4) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return problems.gradients(objective(model, X).surrogate.sum(), model)


def noise(model: LatentVariableModel, k: int = weighted_reference.K) -> Tensor:
    """That of `gradient`."""
    torch.manual_seed(4)
    return model.posterior(X).noise(k).detach()


def log_weights(count: int = 500, spread: float = 5.0) -> Tensor:
    """[4, count] of any order of magnitude."""
    return spread * torch.randn(4, count)


def assert_equal(one: dict[str, Tensor], other: dict[str, Tensor], part: str = "") -> None:
    for name, value in one.items():
        if name.startswith(part):
            torch.testing.assert_close(value, other[name], rtol=1e-9, atol=1e-11, msg=name)


@pytest.mark.parametrize("layers", MODELS)
@pytest.mark.parametrize("name", weighted_reference.FORMULAS)
def test_the_gradient_is_the_papers_formula(name: str, layers: str) -> None:
    model = MODELS[layers]()
    found = gradient(WEIGHTED[name](None), model)
    assert_equal(found, weighted_reference.gradient(name, model, X, noise(model)))


@pytest.mark.parametrize("layers", MODELS)
@pytest.mark.parametrize(
    ("points", "first", "beta"),
    [
        (1, 0.1, [0.0]),
        (2, 0.1, [0.0, 0.1]),
        (3, None, [0, 1 / 3, 2 / 3]),
        (4, 0.008, [0.0, 0.008, 0.008 ** (2 / 3), 0.008 ** (1 / 3)]),  # a geometric sequence up to 1
    ],
)
def test_tvos_gradient_is_the_covariance_estimator(
    layers: str, points: int, first: float | None, beta: list[float]
) -> None:
    model = MODELS[layers]()
    found = gradient(TVO(4, points, first), model)
    assert_equal(found, weighted_reference.tvo_gradient(beta, model, X, noise(model)))


def test_the_sleep_phase_is_log_q_of_simulated_pairs() -> None:
    model = problems.linear_gaussian()
    found = gradient(RWS(4, "sleep"), model)
    noise(model)
    with torch.no_grad():
        z = torch.randn(3, problems.Z_DIM)
        simulated = model.likelihood(z).mean + problems.NOISE_SCALE * torch.randn(3, problems.X_DIM)
    expected = problems.gradients(model.posterior(simulated).log_prob(z).sum(), model)
    assert_equal(found, expected, "posterior")
    assert_equal(found, gradient(IWAE(4), model), "likelihood")


@pytest.mark.parametrize("name", ["iwae", "miwae", "ciwae", "vr_iwae"])
def test_the_weights_of_a_bound_are_its_derivative(name: str) -> None:
    objective = IWAE(4) if name == "iwae" else WEIGHTED[name](None)
    assert isinstance(objective, Weighted)
    log_w = log_weights().requires_grad_()
    (expected,) = torch.autograd.grad(next(iter(objective.bounds(log_w).values())).sum(), log_w)
    for found in objective.weights(log_w.detach()):
        torch.testing.assert_close(found, expected)


NEIGHBOURS: dict[str, tuple[Objective, Objective, str]] = {
    "miwae of one group": (MIWAE(4, 1), IWAE(4), ""),
    "miwae of single samples": (MIWAE(4, 4), ELBO(4), ""),
    "piwae of one group": (PIWAE(4, 1), IWAE(4), ""),
    "piwae's encoder of single samples": (PIWAE(4, 4), ELBO(4), "posterior"),
    "piwae's decoder of single samples": (PIWAE(4, 4), IWAE(4), "likelihood"),
    "ciwae of beta 0": (CIWAE(4, 0.0), IWAE(4), ""),
    "ciwae of beta 1": (CIWAE(4, 1.0), ELBO(4), ""),
    "vr_iwae of alpha 0": (VRIWAE(4, 0.0, False), IWAE(4), ""),
    "vr_iwae of alpha 0, doubly": (VRIWAE(4, 0.0, True), DReG(4), ""),
    "vr_iwae towards alpha 1": (VRIWAE(4, 1 - 1e-13, False), ELBO(4), ""),
    "vr_iwae towards alpha 1, its decoder": (VRIWAE(4, 1 - 1e-13, True), ELBO(4), "likelihood"),
    "vr_iwae of one sample, doubly": (VRIWAE(1, 0.4, True), STL(1), ""),
    "dreg's decoder": (DReG(4), IWAE(4), "likelihood"),
    "dreg of one sample": (DReG(1), STL(1), ""),
    "stl's decoder": (STL(4), IWAE(4), "likelihood"),
    "rws's decoder": (RWS(4, "wake"), IWAE(4), "likelihood"),
    "iwae of all but one": (IWAE(4, 3), IWAE(4), ""),
}


@pytest.mark.parametrize("layers", MODELS)
@pytest.mark.parametrize("name", NEIGHBOURS)
def test_at_its_ends_an_objective_is_its_neighbour(name: str, layers: str) -> None:
    ours, neighbour, part = NEIGHBOURS[name]
    model = MODELS[layers]()
    found = gradient(ours, model)
    assert any(value.any() for key, value in found.items() if key.startswith(part))
    assert_equal(found, gradient(neighbour, model), part)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.99, 0.9999])
@pytest.mark.parametrize("spread", [0.1, 5.0, 300.0])
def test_the_bound_of_vr_iwae_keeps_its_digits_in_float32(alpha: float, spread: float) -> None:
    log_w = (spread * torch.randn(50, 20) - 100).float()
    exact = (log_mean_exp((1 - alpha) * log_w.double()) / (1 - alpha)).float()
    found = VRIWAE(50, alpha, False).bounds(log_w)["vr_iwae"]
    torch.testing.assert_close(found, exact, rtol=2e-6, atol=0)


def test_towards_alpha_1_the_doubly_reparameterised_gradient_is_the_elbos_along_the_path() -> None:
    model = two_layers()
    found = gradient(VRIWAE(4, 1 - 1e-13, True), model)
    samples = noise(model)
    single = [
        weighted_reference.sample(model, X[b : b + 1], samples[i : i + 1, b : b + 1])["path"][1]
        for b in range(3)
        for i in range(4)
    ]
    assert_equal(found, {name: sum(each[name] for each in single) / 4 for name in found}, "posterior")  # type: ignore[misc]


@pytest.mark.parametrize(("k", "groups"), [(64, 8), (50, 5), (12, 3), (5, 1), (1, 1)])
def test_by_default_there_are_about_as_many_groups_as_samples_in_each(k: int, groups: int) -> None:
    assert MIWAE(k, None).groups == groups


def test_groups_are_successive_samples_of_one_image() -> None:
    """By hand, k = 4 of two groups: no two images meet in one."""
    log_w = torch.tensor([[1.0, 0.5], [3.0, 2.0], [2.0, 7.0], [6.0, 0.1]])
    expected = 0.5 * (log_mean_exp(log_w[:2]) + log_mean_exp(log_w[2:]))
    torch.testing.assert_close(MIWAE(4, 2).bounds(log_w)["miwae"], expected)


@pytest.mark.parametrize("first", [None, 0.05])
@pytest.mark.parametrize("points", [1, 2, 10])
def test_tvo_is_between_the_elbo_and_the_importance_weighted_bound_for_every_draw(
    points: int, first: float | None
) -> None:
    log_w = log_weights()
    bounds = TVO(4, points, first).bounds(log_w)
    assert (bounds["tvo"] >= log_w.mean(0) - 1e-12).all()
    assert (bounds["tvo"] <= bounds["iwae"] + 1e-12).all()
    if points == 1:
        torch.testing.assert_close(bounds["tvo"], log_w.mean(0))


def test_tvo_rises_to_the_importance_weighted_bound_with_the_points() -> None:
    log_w = log_weights()
    gaps = torch.stack([(TVO(4, points, None).bounds(log_w)["iwae"] - TVO(4, points, None).bounds(log_w)["tvo"]).mean()
                        for points in (20, 40, 80, 160)])  # fmt: skip
    torch.testing.assert_close(
        gaps[:-1] / gaps[1:], torch.full((3,), 2.0), rtol=0.1, atol=0.0
    )  # of order 1/points


@pytest.mark.parametrize("num_exact", [0, 1, 2])
def test_a_sketch_stands_for_all_samples_in_both_weightings(num_exact: int) -> None:
    """Signed weights, of unlike zeros, each drawn many times."""
    decoder, encoder = torch.tensor([0.5, -0.2, 0.0, 0.1]), torch.tensor([0.3, 0.4, -0.6, 0.0])
    count, value = 100_000, torch.tensor([2.0, -1.0, 0.7, 3.0])
    weights = Weights(*(each[:, None].expand(4, count) for each in (decoder, encoder)))
    index, found = sketch(weights, num_exact)
    assert index.shape == (num_exact + 1, count)
    for ours, exact in zip(found, (decoder, encoder), strict=True):
        draws = (ours * value[index]).sum(0)
        assert abs(draws.mean() - exact @ value) < 5 * draws.std() / count**0.5


def test_a_weight_of_zero_on_one_side_leaves_the_other_side_its_own() -> None:
    """One group holds all weight: the decoder's weights of the other group vanish, the encoder's do not."""
    model, objective = problems.linear_gaussian().float(), PIWAE(4, 2)
    shifted = torch.tensor([0.0, 0.0, -400.0, -400.0])[:, None]
    plain = objective.weights
    objective.weights = lambda log_w: plain(log_w + shifted)  # type: ignore[method-assign]
    torch.manual_seed(4)
    x = X.float()
    found = problems.gradients(objective(model, x).surrogate.sum(), model)
    torch.manual_seed(4)
    expected = problems.gradients(MIWAE(4, 2)(model, x).surrogate.sum(), model)
    for name in found:
        if name.startswith("posterior"):
            torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-5)
