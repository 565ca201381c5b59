"""k-hat of weights whose tail is known, and jackknives against brute force and an exact log-evidence."""

import itertools

import numpy as np
import problems
import pytest
import torch
from torch import Tensor

from evidence.errors import UserError
from evidence.evaluation.diagnostics import Jackknife, ParetoK, left_out
from evidence.numerics import log_mean_exp

pytestmark = pytest.mark.usefixtures("float64")

MODEL, X = problems.linear_gaussian(), torch.zeros(1, 1)


@pytest.mark.parametrize("shape", [0.2, 0.5, 0.9])
def test_k_hat_is_the_shape_of_a_pareto_tail(shape: float) -> None:
    """In any order of the samples."""
    weights = 1 + np.random.default_rng(0).pareto(1 / shape, size=(5_000, 60))
    log_w = torch.from_numpy(np.log(weights))
    found = ParetoK()(MODEL, X, log_w)
    error = found["khat"].std() / 60**0.5
    assert abs(found["khat"].mean() - shape) < 4 * error + 0.03
    assert found["khat_above"].mean() == (found["khat"] > 0.7).double().mean()
    again = ParetoK()(MODEL, X, log_w[torch.randperm(5_000)])
    torch.testing.assert_close(again["khat"], found["khat"])


def test_bounded_weights_have_no_tail() -> None:
    assert (ParetoK()(MODEL, X, torch.rand(2_000, 5).log())["khat"] < 0.1).all()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("samples", [25, 100, 5_000])
def test_where_no_tail_can_be_fitted_k_hat_says_whether_the_weights_are_even(samples: int) -> None:
    """The library alone raises at even weights, and believes a weight that decides everything."""
    even, noise = torch.full((samples,), -3.0), 1e-9 * torch.randn(samples)
    one = torch.cat([torch.zeros(1), torch.full((samples - 1,), -800.0)])
    apart = torch.cat([torch.zeros(1), -900 * torch.arange(1.0, samples)])
    few = torch.cat([torch.full((2,), 50.0), torch.zeros(samples - 2)])
    plain = torch.randn(samples)
    log_w = torch.stack([even, even + noise, one, apart, few, plain], 1)
    found = ParetoK()(MODEL, torch.zeros(6, 1), log_w)
    assert found["khat_above"][:5].tolist() == [0, 0, 1, 1, 1]
    assert found["khat"][:5].tolist() == [0, 0, 1, 1, 1]
    alone = ParetoK()(MODEL, X, plain.unsqueeze(1))
    assert found["khat"][5] == alone["khat"][0] != 0


def test_the_tail_is_three_roots_of_the_number_of_weights() -> None:
    """Of 5,000 weights it has 212, of which the 52 smallest may be as small as what is below."""
    log_w = torch.zeros(5_000, 2)
    for image, large in enumerate((160, 159)):
        log_w[:large, image] = 5 + torch.rand(large)
    found = ParetoK()(MODEL, torch.zeros(2, 1), log_w)["khat"]
    assert found[0] < 0.9
    assert found[1] == 1


def test_the_threshold_falls_with_fewer_samples() -> None:
    weights = 1 + np.random.default_rng(0).pareto(1 / 0.6, size=(100, 400))
    found = ParetoK()(MODEL, X, torch.from_numpy(np.log(weights)))
    assert found["khat_above"].mean() == (found["khat"] > 0.5).double().mean()  # 1 - 1 / log10 100


def brute_force(log_w: Tensor) -> tuple[float, float]:
    """JVI-1 and JVI-2 of log-weights [K], each set left out on its own."""
    k = len(log_w)

    def mean_without(count: int) -> Tensor:
        kept = [list(each) for each in itertools.combinations(range(k), k - count)]
        return torch.stack([log_mean_exp(log_w[each]) for each in kept]).mean()

    whole, one, two = (mean_without(count) for count in range(3))
    first = k * whole - (k - 1) * one
    return float(first), float(k**2 / 2 * whole - (k - 1) ** 2 * one + (k - 2) ** 2 / 2 * two)


@pytest.mark.parametrize("spread", [1.0, 30.0, 1000.0])
def test_jackknives_are_those_of_all_subsets(spread: float) -> None:
    """Also where one weight has nearly all: no digits are lost."""
    log_w = spread * torch.randn(15, 2)  # three groups of five, two images
    found = Jackknife(5)(MODEL, X, torch.cat([log_w, torch.zeros(2, 2)]))  # two samples are left over
    for image in range(2):
        each = [brute_force(log_w[5 * group : 5 * group + 5, image]) for group in range(3)]
        first, second = torch.tensor(each).mean(0)
        torch.testing.assert_close(-found["jvi_1"][image], first)
        torch.testing.assert_close(-found["jvi_2"][image], second)


def test_each_order_is_nearer_to_the_log_evidence() -> None:
    model, x = problems.linear_gaussian(), problems.images(4)
    exact = problems.exact_log_evidence(model, x).mean().detach()
    with torch.no_grad():
        found = Jackknife(10)(model, x, model.log_weights(x, 100_000))
    gaps = [float((-found[name].mean() - exact).abs()) for name in ("nll_group", "jvi_1", "jvi_2")]
    assert gaps[0] > 2 * gaps[1] > 2 * gaps[2]


def test_sums_without_pairs() -> None:
    one, two = left_out(torch.tensor([1.0, 4.0, 2.0, 0.0]).log())
    assert one.exp().tolist() == pytest.approx([7.0, 6.0, 5.0, 3.0])
    assert two.exp().tolist() == pytest.approx([6.0, 5.0, 3.0, 4.0, 2.0, 1.0])


def test_few_samples_are_one_group_and_have_no_tail() -> None:
    log_w = torch.randn(6, 1)
    for few in (log_w, log_w[:3]):
        found = Jackknife(50)(MODEL, X, few)
        assert (-float(found["jvi_1"]), -float(found["jvi_2"])) == pytest.approx(brute_force(few[:, 0]))
    pair = Jackknife(50)(MODEL, X, log_w[:2])
    assert pair["jvi_1"] == pair["jvi_2"] == pair["nll_group"] == -log_mean_exp(log_w[:2])
    assert ParetoK()(MODEL, X, log_w) == {"khat": torch.ones(1), "khat_above": torch.ones(1)}
    with pytest.raises(UserError, match="needs 3 samples or more"):
        Jackknife(2)
