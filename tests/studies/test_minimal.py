"""The example in one file trains, in one sitting."""

import math
from pathlib import Path

import pytest
import torch

from evidence import data
from experiments import minimal


def test_the_example_is_short() -> None:
    assert len(Path(minimal.__file__).read_text().splitlines()) < 80


def test_the_example_learns_more_than_the_mean_image(capsys: pytest.CaptureFixture[str]) -> None:
    digits = data.digits(minimal.PIXELS, "stochastic")
    began = minimal.score(minimal.train(0, digits), digits.test)
    found = minimal.score(minimal.train(500, digits), digits.test)
    assert capsys.readouterr().out.count("nats") == 1
    mean, x = data.mean_pixels(digits).clamp(1e-3, 1 - 1e-3), digits.test.float()
    independent = -(x * mean.log() + (1 - x) * (1 - mean).log()).sum(1).mean().item()
    assert began["nll"] == pytest.approx(64 * math.log(2), abs=5)
    assert found["nll"] < independent - 2 * found["nll_se"]
    assert 1 <= found["active_units"] <= minimal.LATENT


def test_the_example_ascends_the_bound_of_the_package() -> None:
    """Its surrogate and IWAE's are one function of the same noise."""
    from evidence.numerics import log_mean_exp
    from evidence.objectives import IWAE

    digits = data.digits(minimal.PIXELS, "stochastic")
    model, x = minimal.train(0, digits), digits.test[:7].float()
    torch.manual_seed(1)
    ours = log_mean_exp(model.log_weights(x, minimal.K))
    torch.manual_seed(1)
    assert torch.equal(ours, IWAE(minimal.K)(model, x).surrogate)
