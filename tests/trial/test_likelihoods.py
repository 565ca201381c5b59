"""A likelihood that is no probability of images of 0 and 1 ends before training; a right one of any form is taken."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evidence import models
from evidence.errors import UserError
from evidence.models import LatentVariableModel
from evidence.trial.likelihoods import check_likelihood

PIXELS = 30


class OfLogits:
    """p(x | z) by a function of x and the logits [K, B, X]."""

    def __init__(
        self, logits: Tensor, log_prob: Callable[[Tensor, Tensor], Tensor], mean: Any = None
    ) -> None:
        self.logits, self._log_prob = logits, log_prob
        self.mean = torch.sigmoid(logits) if mean is None else mean(logits)

    def log_prob(self, x: Tensor) -> Tensor:
        return self._log_prob(x, self.logits)


def with_likelihood(
    log_prob: Callable[[Tensor, Tensor], Tensor], mean: Any = None
) -> tuple[LatentVariableModel, Tensor]:
    model = models.hierarchical(PIXELS, [3], [[8]], "tanh", torch.linspace(0.05, 0.6, PIXELS))
    inner = model.likelihood

    class Likelihood(nn.Module):
        def forward(self, z: Tensor) -> OfLogits:
            return OfLogits(inner(z).logits, log_prob, mean)

    model.likelihood = Likelihood()
    return model, torch.bernoulli(torch.full((4, PIXELS), 0.3))


def pixels(x: Tensor, logits: Tensor, **options: Any) -> Tensor:
    """log p of each pixel."""
    x, logits = torch.broadcast_tensors(x, logits)
    return -F.binary_cross_entropy_with_logits(logits, x, reduction="none", **options)


def bernoulli(x: Tensor, logits: Tensor) -> Tensor:
    return pixels(x, logits).sum(-1)


def normal(x: Tensor, logits: Tensor) -> Tensor:
    """Without its constant."""
    return -0.5 * (x - torch.sigmoid(logits)).square().sum(-1)


def of_two(x: Tensor, logits: Tensor, contrast: float = 3.0) -> Tensor:
    """A mixture of an image and its negative: its pixels depend on each other."""
    both = torch.stack([bernoulli(x, contrast * logits), bernoulli(x, -contrast * logits)])
    return both.logsumexp(0) - math.log(2)


def autoregressive(x: Tensor, logits: Tensor) -> Tensor:
    """Each pixel knows how many before it are white."""
    before = x.cumsum(-1) - x
    return bernoulli(x, logits + before - 3)


WRONG: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], Any, str]] = {
    "a mean over pixels": (
        lambda x, p: pixels(x, p).mean(-1),
        None,
        r"nats too large: p\(x \| z\) sums to more",
    ),
    "weighted": (lambda x, p: pixels(x, p, pos_weight=torch.tensor(0.3)).sum(-1), None, "nats too large"),
    "a density": (normal, None, "nats too large"),
    "tempered": (lambda x, p: 0.9 * bernoulli(x, p), None, "nats too large"),
    "too bright": (lambda x, p: (pixels(x, p).exp() + 0.01).log().sum(-1), None, "nats too large"),
    "two, unweighted": (
        lambda x, p: 4 + of_two(x, p, 0.3),
        lambda p: 0 * p + 0.5,
        r"sums to more than 1 over",
    ),
    "the wrong sign": (lambda x, p: -of_two(x, p), lambda p: 0 * p + 0.5, r"sums to more than 1 over"),
    "logits as mean": (bernoulli, lambda p: p, r"mean is -?\d\S* at a pixel that is 1 with probability"),
    "a mean of others": (of_two, lambda p: p, r"mean is from -\S+ to \S+; it must be of 0 and 1"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_probability_is_refused(case: str) -> None:
    log_prob, mean, said = WRONG[case]
    with torch.no_grad(), pytest.raises(UserError, match=said) as caught:
        check_likelihood(*with_likelihood(log_prob, mean))
    assert "\n" not in str(caught.value)


RIGHT: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], Any]] = {
    "bernoulli": (bernoulli, None),
    "clamped": (lambda x, p: (pixels(x, p).exp() + 1e-7).log().sum(-1), None),
    "a mixture": (of_two, lambda p: 0 * p + 0.5),
    "autoregressive": (autoregressive, None),
    "impossible images": (
        lambda x, p: bernoulli(x, p) + (x.sum(-1) > 3).double().log(),
        None,
    ),
}


@pytest.mark.parametrize("case", RIGHT)
def test_what_is_one_is_taken(case: str) -> None:
    with torch.no_grad():
        for seed in range(20):
            torch.manual_seed(seed)
            assert check_likelihood(*with_likelihood(*RIGHT[case])) == []


def test_one_that_sums_to_less_is_noted() -> None:
    """The sum of log N(x; m, 1) over the two values of each pixel, by hand."""
    model, x = with_likelihood(lambda x, p: normal(x, p) - 0.5 * PIXELS * math.log(2 * math.pi))
    with torch.no_grad():
        (note,) = check_likelihood(model, x)
        z = torch.zeros(1, 1, 3)
        mean = model.likelihood(z).mean[0, 0]
    expected = torch.stack([-0.5 * mean**2, -0.5 * (1 - mean) ** 2]).logsumexp(0) - 0.5 * math.log(
        2 * math.pi
    )
    found = float(note.partition("exp(")[2].partition(")")[0])
    assert found == pytest.approx(float(expected.sum()), rel=0.02)  # of another z
