"""The signal-to-noise ratio of gradients against exact gradients, and each objective's on a trained model."""

import copy
from functools import partial

import problems
import pytest
import torch
from objective_cases import CASES, batch
from torch import Tensor

from evidence.evaluation import GradientSNR
from evidence.evaluation.gradients import Ratios, ratios
from evidence.models import LatentVariableModel
from evidence.objectives import ELBO, IWAE, Estimate
from evidence.streams import TEST, Stream, drawing

pytestmark = pytest.mark.usefixtures("float64")


class Unused(ELBO):
    """The decoder's part of the ELBO."""

    def forward(self, model: LatentVariableModel, x: Tensor) -> Estimate:
        z = model.posterior(x).sample(self.k)
        return Estimate(model.log_joint(x, z).mean(0), {})


def test_ratios_are_those_of_the_draws_one_by_one() -> None:
    draws = torch.randn(40, 7) + 0.3
    mean, variance = draws.mean(0), draws.var(0).sum()
    directions = []
    for number, draw in enumerate(draws):
        others = torch.cat([draws[:number], draws[number + 1 :]]).mean(0)
        along = (draw @ others) / others.norm()
        directions.append(along.abs() / (draw - along * others / others.norm()).norm())
    expected = Ratios(
        float(mean.square().sum() - variance / 40), float(variance), float(sum(directions) / 40)
    )
    for found, exact in zip(ratios(draws), expected, strict=True):
        assert found == pytest.approx(exact)


def test_noise_alone_has_no_signal() -> None:
    """On average, though a mean of few draws has a length, and a draw is a part of the mean of all."""
    found = [ratios(torch.randn(10, 500)) for _ in range(400)]
    signal = torch.tensor([each.signal for each in found])
    assert abs(signal.mean()) < 4 * signal.std() / 20
    assert sum(each.direction for each in found) / 400 == pytest.approx((2 / torch.pi / 499) ** 0.5, rel=0.1)


@pytest.mark.parametrize("is_frozen", [True, False])
def test_a_part_without_a_gradient_has_no_ratio(is_frozen: bool) -> None:
    """Frozen, or unused."""
    model, x = problems.linear_gaussian(), problems.images(4)
    objective = ELBO(1)
    if is_frozen:
        model.posterior.requires_grad_(False)
    else:
        objective = Unused(1)
    found = GradientSNR(5, 2, 2).of_all(model, objective, x)
    assert found["snr_encoder"].tolist() == found["direction_encoder"].tolist() == [0.0] * 4
    assert (found["direction_decoder"] > 0).all()


def test_of_an_exact_gradient() -> None:
    """|E g|^2 by the closed form of the ELBO, the variance from draws of its own."""
    model, x = problems.linear_gaussian(), problems.images(12)
    found = GradientSNR(2_000, 6, 2).of_all(model, ELBO(1), x)
    batches = [x[0::2], x[1::2]]
    for name, part in {"encoder": "posterior", "decoder": "likelihood"}.items():
        signal, variance, module = 0.0, 0.0, getattr(model, part)
        for images in batches:
            exact = problems.gradients(problems.exact_elbo(model, images).mean(), module)
            draws = problems.gradient_draws(partial(ELBO(1), model, images), module, 2_000)
            signal += sum(float(value.square().sum()) for value in exact.values())
            variance += sum(float(value.var(0).sum()) for value in draws.values())
        assert found[f"snr_{name}"].shape == (12,)
        assert float(found[f"snr_{name}"][0]) == pytest.approx((signal / variance) ** 0.5, rel=0.08)


@pytest.mark.parametrize("name", CASES)
def test_of_each_objective(name: str) -> None:
    """The run's objective and model stay as they are, and the same stream gives the same numbers."""
    (model, objective), x = CASES[name](), batch()
    kept = copy.deepcopy({**model.state_dict(), **objective.state_dict(prefix="objective.")})

    def measured() -> dict[str, Tensor]:
        with torch.no_grad(), drawing(Stream(2**63, TEST, images=torch.arange(len(x)))):
            return GradientSNR(20, 2, 2).of_all(model, objective, x)

    found = measured()
    assert set(found) == {
        f"{kind}_{part}" for kind in ("snr", "direction") for part in ("encoder", "decoder")
    }
    assert all(torch.isfinite(value).all() and value.shape == x.shape[:1] for value in found.values())
    for key, value in measured().items():
        torch.testing.assert_close(value, found[key])
    after = {**model.state_dict(), **objective.state_dict(prefix="objective.")}
    assert all(torch.equal(after[key], value) for key, value in kept.items())


def test_more_samples_take_the_signal_out_of_the_encoder_and_give_it_to_the_decoder() -> None:
    """Rainforth et al. 2018, for the importance-weighted bound."""
    model, x = problems.linear_gaussian(), problems.images(4)
    few, many = (GradientSNR(1_000, 4, 1).of_all(model, IWAE(k), x) for k in (4, 256))
    assert many["snr_encoder"][0] < few["snr_encoder"][0]
    assert many["snr_decoder"][0] > 2 * few["snr_decoder"][0]


def test_a_draw_of_zero_has_no_direction_and_one_number_has_none_at_all() -> None:
    assert ratios(torch.tensor([[0.0, 0.0], [1.0, 2.0], [2.0, 1.0]])).direction == pytest.approx(
        (0 + 4 / 3 + 4 / 3) / 3
    )
    assert ratios(torch.tensor([[1.0], [2.0], [4.0]])).direction == float("inf")


class Constant(ELBO):
    """Its gradient has no noise."""

    def forward(self, model: LatentVariableModel, x: Tensor) -> Estimate:
        return Estimate(model.likelihood.bias.sum().expand(len(x)) + model.posterior(x).mean[:, 0] ** 2, {})


def test_what_is_infinite_is_left_out() -> None:
    found = GradientSNR(3, 4, 1).of_all(problems.linear_gaussian(), Constant(1), problems.images(4))
    assert not found.keys() & {"snr_encoder", "snr_decoder"}
