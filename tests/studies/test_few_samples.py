"""The variance that a few samples in the backward pass add, against every choice that could have been drawn."""

import itertools
import sys

import pandas as pd
import pytest
import torch
from frames import frame
from torch import Tensor

from evidence import models, objectives
from evidence.distributions import DiagonalNormal
from evidence.objectives import weighting
from experiments.few_samples import measure
from experiments.few_samples.gradients import added_variance, full_variance, products
from experiments.few_samples.measure import ratio_of_means

pytestmark = pytest.mark.usefixtures("float64")

K, IMAGES, PIXELS, LATENT = 4, 2, 5, 3


def problem() -> tuple[models.LatentVariableModel, Tensor]:
    model = models.hierarchical(PIXELS, [LATENT], [[4]], "tanh", torch.full((PIXELS,), 0.4))
    return model, torch.bernoulli(torch.full((IMAGES, PIXELS), 0.5))


def gradient(objective: objectives.Objective, model: models.LatentVariableModel, x: Tensor) -> Tensor:
    surrogate = objective(model, x).surrogate.sum()
    return torch.cat([part.flatten() for part in torch.autograd.grad(surrogate, list(model.parameters()))])


@pytest.mark.parametrize("num_exact", [0, 1, 2])
def test_the_added_variance_is_that_over_every_choice(num_exact: int, monkeypatch: pytest.MonkeyPatch):
    model, x = problem()
    noise = torch.randn(K, IMAGES, LATENT)
    monkeypatch.setattr(DiagonalNormal, "noise", lambda *_: noise)
    log_w, inner = products(model, x, noise)
    weights = log_w.softmax(0)
    exact, heaviest = weights.topk(num_exact, 0)
    rest = weights.scatter(0, heaviest, 0.0)
    few = objectives.IWAE(K, num_exact)
    gradients, probabilities = [], []
    for choice in itertools.product(range(K), repeat=IMAGES):
        drawn = torch.tensor([choice])
        chosen = torch.cat([heaviest, drawn]), torch.cat([exact, rest.sum(0, keepdim=True)])
        monkeypatch.setattr(weighting, "choose_few", lambda *_, chosen=chosen: chosen)
        gradients.append(gradient(few, model, x))
        probabilities.append((rest / rest.sum(0)).gather(0, drawn).prod())
    probability, each = torch.stack(probabilities), torch.stack(gradients)
    full = gradient(objectives.IWAE(K), model, x)
    torch.testing.assert_close(probability @ each, full)
    variance = probability @ (each - full).square()
    decoder = sum(parameter.numel() for parameter in model.likelihood.parameters())  # they come first
    expected = {
        "all": variance.sum(),
        "decoder": variance[:decoder].sum(),
        "encoder": variance[decoder:].sum(),
    }
    for part, value in expected.items():
        torch.testing.assert_close(added_variance(weights, inner[part], num_exact).sum(), value)


def test_the_full_variance_is_half_the_squared_distance_of_two_gradients(monkeypatch: pytest.MonkeyPatch):
    model, x = problem()
    x = x[:1]  # the products are those of one image
    noise = torch.randn(2 * K, 1, LATENT)
    log_w, inner = products(model, x, noise)
    found = full_variance(log_w[:K].softmax(0), log_w[K:].softmax(0), inner["all"])
    gradients = []
    for half in noise[:K], noise[K:]:
        monkeypatch.setattr(DiagonalNormal, "noise", lambda *_, half=half: half)
        gradients.append(gradient(objectives.IWAE(K), model, x))
    torch.testing.assert_close(found, ((gradients[0] - gradients[1]).square().sum() / 2)[None])


def test_a_ratio_of_means_has_the_spread_of_repetitions():
    below = 1 + torch.rand(2000, 50)
    above = 0.5 * below + 0.3 * torch.randn_like(below)
    found = torch.tensor([ratio_of_means(*pair) for pair in zip(above, below, strict=True)])
    spread = found[:, 0].std()
    error = spread / (2 * 2000) ** 0.5
    torch.testing.assert_close(found[:, 1].square().mean().sqrt(), spread, atol=5 * error.item(), rtol=0)


@pytest.mark.parametrize(
    "made", [pd.DataFrame(), frame({"objective": "vae", "k": 1})], ids=["none", "others"]
)
def test_nothing_to_compare_is_one_line(made: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["measure"])
    monkeypatch.setattr(measure, "finished", lambda name: made)
    with pytest.raises(
        SystemExit, match=r"^evidence: there are no finished runs to compare; make few-samples"
    ):
        measure.main()
