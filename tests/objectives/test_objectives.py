"""Every objective against exact answers on the linear-Gaussian problem, and what all objectives promise."""

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import problems
import pytest
import torch
from objective_cases import WEIGHTED
from torch import Tensor, nn

from evidence import models
from evidence.networks import Critic
from evidence.numerics import log_mean_exp
from evidence.objectives import ELBO, IWAE, SIVI, UIVI, CriticWeighted, Objective, choose_few
from evidence.objectives.reverse_conditional import HMCSampler

pytestmark = pytest.mark.usefixtures("float64")

DATA_DIM = 6


def critic(encoder: str = "path", target: str = "evidence", warmup: int = 0) -> CriticWeighted:
    network = Critic(DATA_DIM, [5], "tanh")
    return CriticWeighted(2, encoder, target, 3.0, warmup, network)  # type: ignore[arg-type]


EXPLICIT: dict[str, Callable[[], Objective]] = {
    "vae": lambda: ELBO(2),
    "iwae": lambda: IWAE(3),
    "iwae-sampled": lambda: IWAE(3, 0),
    "iwae-top": lambda: IWAE(4, 2),
    **{name: partial(make, None) for name, make in WEIGHTED.items()},
    **{f"{name}-few": partial(make, 1) for name, make in WEIGHTED.items()},
    "critic-literal": lambda: critic("literal"),
    "critic-elbo": lambda: critic("elbo", "elbo"),
    "critic-path": lambda: critic("path"),
    "critic-warmup": lambda: critic("literal", warmup=5),
}
SEMI_IMPLICIT: dict[str, Callable[[], Objective]] = {
    "uivi": lambda: UIVI(2, HMCSampler(2, 2, 3, 0.1, 0.9, 0.01)),
    "sivi": lambda: SIVI(2, 4),
}


def pixels(count: int = 5) -> Tensor:
    return (torch.rand(count, DATA_DIM) < 0.4).double()


def build(posterior: str) -> models.LatentVariableModel:
    mean = torch.full((DATA_DIM,), 0.3)
    if posterior == "one":
        return models.hierarchical(DATA_DIM, [3], [[7, 7]], "tanh", mean)
    if posterior == "three":
        return models.hierarchical(DATA_DIM, [4, 3, 2], [[7], [5], [5]], "tanh", mean)
    if posterior == "explicit":
        return models.explicit(DATA_DIM, 3, [7, 7], "relu", mean)
    return models.semi_implicit(DATA_DIM, 3, 2, [7, 7], "relu", 0.5, 1e-5, mean)


CASES = [(name, make, kind) for name, make in EXPLICIT.items() for kind in ("one", "three", "explicit")]
CASES += [("vae-analytic", lambda: ELBO(2, "analytic"), kind) for kind in ("one", "explicit")]
CASES += [(name, make, "semi_implicit") for name, make in SEMI_IMPLICIT.items()]


@pytest.mark.parametrize(
    ("make", "kind"), [case[1:] for case in CASES], ids=[f"{name}-{kind}" for name, _, kind in CASES]
)
class TestEvery:
    """What the training loop relies on."""

    def test_every_parameter_receives_a_gradient(self, make: Callable[[], Objective], kind: str) -> None:
        model, objective, x = build(kind), make(), pixels()
        objective(model, x)  # a critic's first weights and statistics
        objective(model, x).surrogate.sum().backward()
        both = nn.ModuleList([model, objective])
        dead = [name for name, p in both.named_parameters() if p.grad is None or not p.grad.any()]
        assert not dead

    def test_the_estimate_has_the_promised_form(self, make: Callable[[], Objective], kind: str) -> None:
        surrogate, metrics = make()(build(kind), pixels())
        assert surrogate.shape == (5,)
        assert all(value.shape == () and not value.requires_grad for value in metrics.values())
        assert all(value.isfinite() for value in metrics.values())

    def test_the_same_seed_gives_the_same_estimate(self, make: Callable[[], Objective], kind: str) -> None:
        def once() -> list[Tensor]:
            torch.manual_seed(5)
            surrogate, metrics = make()(build(kind), pixels())
            return [surrogate, *metrics.values()]

        for first, second in zip(once(), once(), strict=True):
            assert torch.equal(first, second)


def test_bounds_are_ordered_and_below_the_evidence() -> None:
    """ELBO <= L_5 <= L_50 <= log p(x) in expectation, each gap more than five standard errors."""
    model, x = problems.linear_gaussian(), problems.images(8)
    draws = {}
    for name, objective in {"elbo": ELBO(1), "5": IWAE(5), "50": IWAE(50)}.items():
        repeats = torch.stack([objective(model, x).surrogate.detach().mean() for _ in range(1000)])
        draws[name] = (float(repeats.mean()), float(repeats.std() / 1000**0.5))
    exact = problems.exact_log_evidence(model, x).mean().item()
    ladder = [*draws.values(), (exact, 0.0)]
    for (low, low_error), (high, high_error) in pairwise(ladder):
        assert high - low > 5 * (low_error**2 + high_error**2) ** 0.5
    elbo, error = draws["elbo"]
    assert abs(elbo - problems.exact_elbo(model, x).mean().item()) < 5 * error


def test_the_exact_posterior_gives_constant_weights_equal_to_the_evidence() -> None:
    model, x = problems.with_exact_posterior(), problems.images(8)
    expected = problems.exact_log_evidence(model, x)
    log_w = model.log_weights(x, 20)
    torch.testing.assert_close(log_w, expected.expand(20, 8))
    torch.testing.assert_close(IWAE(20)(model, x).surrogate, expected)


@pytest.mark.parametrize("k", [1, 7])
def test_the_elbos_gradient_is_the_closed_forms(k: int) -> None:
    model, x = problems.linear_gaussian(), problems.images(5)
    exact = problems.gradients(problems.exact_elbo(model, x).mean(), model)
    draws = problems.gradient_draws(lambda: ELBO(k)(model, x), model, 1500)
    for name in exact:
        assert problems.deviation(draws[name], exact[name]) < 5, name


def test_the_analytic_kl_has_the_same_gradient_and_less_variance() -> None:
    model, x = problems.linear_gaussian(), problems.images(5)
    exact = problems.gradients(problems.exact_elbo(model, x).mean(), model)
    draws = problems.gradient_draws(lambda: ELBO(1, "analytic")(model, x), model, 1500)
    sampled = problems.gradient_draws(lambda: ELBO(1)(model, x), model, 1500)
    for name in exact:
        assert problems.deviation(draws[name], exact[name]) < 5, name
    assert draws["posterior.bias"].var(0).sum() < sampled["posterior.bias"].var(0).sum()


def test_iwae_of_one_sample_is_the_sampled_elbo() -> None:
    model, x = problems.linear_gaussian(), problems.images(5)

    def gradient(objective: Objective) -> dict[str, Tensor]:
        torch.manual_seed(9)
        return problems.gradients(objective(model, x).surrogate.sum(), model)

    vae = gradient(ELBO(1))
    for other in (IWAE(1), IWAE(1, 0)):
        for name, value in gradient(other).items():
            torch.testing.assert_close(value, vae[name])


def test_iwaes_gradient_is_the_weighted_sum_of_gradients() -> None:
    """Eq. 14 of Burda et al. 2015, each grad log w_i taken on its own."""
    model, x = problems.linear_gaussian(), problems.images(3)
    torch.manual_seed(9)
    found = problems.gradients(IWAE(4)(model, x).surrogate.sum(), model)
    torch.manual_seed(9)
    log_w = model.log_weights(x, 4)
    normalised = log_w.detach().softmax(0)
    expected = {name: torch.zeros_like(value) for name, value in found.items()}
    for i in range(4):
        for b in range(3):
            term = torch.autograd.grad(
                log_w[i, b], list(model.parameters()), retain_graph=True, allow_unused=True
            )
            for name, value in zip(expected, term, strict=True):
                expected[name] += normalised[i, b] * (0 if value is None else value)
    for name in expected:
        torch.testing.assert_close(found[name], expected[name])


@pytest.mark.parametrize("num_exact", [0, 2])
def test_few_samples_backward_have_the_full_gradient_on_average(num_exact: int) -> None:
    """Both against an independent long run of the full gradient, whose own error is counted."""
    model, x = problems.linear_gaussian(), problems.images(4)
    full = problems.gradient_draws(lambda: IWAE(6)(model, x), model, 1500)
    few = problems.gradient_draws(lambda: IWAE(6, num_exact)(model, x), model, 1500)
    for name in full:
        error = (full[name].var(0) / 1500 + few[name].var(0) / 1500).sqrt()
        assert ((full[name].mean(0) - few[name].mean(0)).abs() / error.clamp(min=1e-12)).max() < 5, name
    uniform = problems.gradient_draws(lambda: ELBO(6)(model, x), model, 1500)
    assert problems.deviation(uniform["likelihood.bias"], full["likelihood.bias"].mean(0)) > 5


def test_the_heaviest_samples_leave_little_variance_to_the_one_that_is_drawn() -> None:
    """Given the k samples: none of the exact terms' variance, and less of the rest the more are exact."""
    model, x = problems.linear_gaussian(), problems.images(4)

    def spread(num_exact: int) -> float:
        draws = []
        for seed in range(200):
            torch.manual_seed(seed % 2)  # two sets of k samples ...
            weights = model.log_weights(x, 8).detach().softmax(0)
            torch.manual_seed(1000 + seed)  # ... and many draws from each
            index, coefficient = choose_few(weights, num_exact)
            draws.append(
                (coefficient * index.double()).sum(0) - (weights * torch.arange(8.0)[:, None]).sum(0)
            )
        return torch.stack(draws).var(0).sum().item()

    assert spread(0) > 2 * spread(2) > 2 * spread(5) > 0


def test_a_sketch_of_weights_keeps_their_sum_also_where_one_has_all() -> None:
    weights = torch.tensor([[0.2, 1.0], [0.5, 0.0], [0.3, 0.0]])
    index, coefficient = choose_few(weights, 1)
    torch.testing.assert_close(coefficient, torch.tensor([[0.5, 1.0], [0.5, 0.0]]))
    assert index[0].tolist() == [1, 0]
    assert index[1, 0] in (0, 2)
    torch.manual_seed(0)
    drawn = torch.stack([choose_few(weights[:, :1], 1)[0][1, 0] for _ in range(4000)])
    share = (drawn == 2).double()
    assert abs(share.mean() - 0.6) < 5 * share.std() / 4000**0.5


def test_iwaes_metrics_are_the_bounds_they_are_named_after() -> None:
    model, x = problems.linear_gaussian(), problems.images(4)
    torch.manual_seed(3)
    metrics = IWAE(6)(model, x).metrics
    torch.manual_seed(3)
    log_w = model.log_weights(x, 6)
    torch.testing.assert_close(metrics["iwae"], log_mean_exp(log_w).mean().detach())
    torch.testing.assert_close(metrics["elbo"], log_w.mean().detach())


@pytest.mark.parametrize(
    "make",
    [
        lambda: ELBO(2),
        lambda: ELBO(2, "analytic"),
        lambda: IWAE(3),
        *(partial(WEIGHTED[name], None) for name in ("miwae", "ciwae", "vr_iwae")),
    ],
)
def test_gradients_are_those_of_the_estimated_bound(make: Callable[[], Objective]) -> None:
    """With the noise held fixed the surrogate is an ordinary function: central differences see any lost path."""
    problems.assert_differentiable(problems.linear_gaussian(), make(), problems.images(3))
