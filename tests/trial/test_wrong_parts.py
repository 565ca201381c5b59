"""A wrong part ends before training with one line: which method, of which class, and what it must return."""

from collections import defaultdict
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import problems
import pytest
import torch
from torch import nn

from evidence import streams
from evidence.distributions import Bernoulli, DiagonalNormal
from evidence.errors import UserError
from evidence.evaluation import ImportanceSampling, Noise, WithMetrics, evaluate, measure_whole
from evidence.models import LatentVariableModel
from evidence.objectives import ELBO
from evidence.trial.interfaces import check_kinds, check_returns


class Part(nn.Module):
    """A module whose forward returns what the function makes of its arguments."""

    def __init__(self, returned: Callable[..., Any]) -> None:
        super().__init__()
        self.returned = returned

    def forward(self, *args: Any) -> Any:
        return self.returned(*args)


class NoForward(nn.Module):
    """A module that only has parameters."""


def normal(*shape: int) -> DiagonalNormal:
    return DiagonalNormal(torch.zeros(shape), torch.ones(shape))


def posterior(**methods: Any) -> Part:
    """A posterior of right methods, but for those given."""
    right = {name: getattr(normal(3, 2), name) for name in ("noise", "rsample", "expectation")}
    pair = normal(3, 2).rsample_and_log_prob
    return Part(lambda x: SimpleNamespace(**{**right, "rsample_and_log_prob": pair, **methods}))


WRONG = [
    ("posterior", posterior(rsample=lambda noise: 1.0), "it must be a tensor [K, B, D]"),
    ("posterior", posterior(rsample_and_log_prob=lambda noise: noise), "it must be z [K, B, D] and log q"),
    ("posterior", posterior(rsample_and_log_prob=lambda noise: (noise, noise)), "it must be a tensor [K, B]"),
    ("posterior", posterior(expectation=lambda count: 1.0), "it must be a tensor [B, D]"),
    ("posterior", NoForward(), "NoForward has no forward; it must return a distribution"),
    ("prior", NoForward(), "NoForward has no forward; it must return a distribution"),
    ("likelihood", NoForward(), "NoForward has no forward; it must return a distribution"),
    ("posterior", Part(lambda x: x), "which has no noise and no rsample"),
    ("posterior", Part(lambda x: (x, x)), "which has no noise and no rsample"),
    (
        "posterior",
        Part(lambda x: SimpleNamespace(noise=None, rsample=None, expectation=None)),
        "has no rsample_and_log_prob",
    ),
    ("posterior", Part(lambda x: normal(7)), "it must be a tensor [K, B, D]"),
    ("prior", Part(lambda: None), "which has no noise and no rsample and no log_prob"),
    ("prior", Part(lambda: normal(1, 3)), "it must be a tensor [K, D]"),
    ("likelihood", Part(lambda z: z), "which has no log_prob"),
    ("likelihood", Part(lambda z: Bernoulli(torch.zeros(3, 6))), "it must be a tensor [K, B, X]"),
]


@pytest.mark.parametrize(("name", "part", "said"), WRONG)
def test_a_wrong_part_is_named_with_what_it_must_return(name: str, part: nn.Module, said: str) -> None:
    model, x = problems.linear_gaussian(), problems.images(3)
    check_returns(model, x)
    setattr(model, name, part)
    with pytest.raises(UserError) as raised:
        check_returns(model, x)
    assert said in str(raised.value)
    assert type(part).__name__ in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_a_part_by_torch_jit_is_named() -> None:
    model = problems.linear_gaussian()
    model.posterior = nn.Sequential(torch.jit.trace(nn.Linear(4, 2), problems.images(3)), model.posterior)
    with pytest.raises(
        UserError, match=r"^model\.posterior\.0 is made by torch\.jit; give the module itself"
    ):
        check_kinds(model, ELBO(1))


def fails(model: LatentVariableModel, x: torch.Tensor, log_weights: torch.Tensor) -> Any:
    raise ValueError("two\nlines")


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        (fails, "raised ValueError: two lines"),
        (lambda model, x, log_w: log_w[0], "returned a Tensor; it must return a dict"),
        (lambda model, x, log_w: {}, "it must return a dict"),
        (lambda model, x, log_w: {"a": log_w}, "a is a tensor [2, 3]; it must be a real tensor [B] = [3]"),
        (lambda model, x, log_w: {"a": 1.0}, "a is a float; it must be a real tensor"),
        (lambda model, x, log_w: {"nll": log_w[0]}, "another metric has the name nll"),
        (lambda model, x, log_w: {"nll_se": log_w[0]}, "another metric has the name nll_se"),
        (lambda model, x, log_w: {"a/b": log_w[0]}, "must be of letters"),
        (lambda model, x, log_w: {"a": log_w[0] / 0}, "a is not finite"),
    ],
)
def test_a_wrong_metric_is_named(metric: Any, said: str) -> None:
    model, x = problems.linear_gaussian(), problems.images(3)
    evaluator = WithMetrics(ImportanceSampling(2, 100), {"mine": metric}, defaultdict(float))
    with pytest.raises(UserError) as raised:
        evaluate(model, x, evaluator, lambda count: None)
    assert str(raised.value).startswith("eval.metrics.mine: ")
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("of_all", "said"),
    [
        (fails, "raised ValueError: two lines"),
        (
            lambda model, objective, x: {"a": x[:2, 0]},
            "a is a tensor [2]; it must be a real tensor [B] = [3]",
        ),
        (lambda model, objective, x: {"nll": x[:, 0]}, "another metric has the name nll"),
    ],
)
def test_a_wrong_metric_of_all_images_is_named(of_all: Any, said: str) -> None:
    model, x = problems.linear_gaussian(), problems.images(3)
    metric = SimpleNamespace(of_all=of_all)
    evaluator = WithMetrics(ImportanceSampling(2, 100), {"mine": metric}, defaultdict(float))
    noise = Noise(0, streams.TEST, torch.arange(3))
    with pytest.raises(UserError) as raised:
        measure_whole(model, ELBO(1), x, evaluator, noise, {"nll"})
    assert str(raised.value).startswith("eval.metrics.mine: ")
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)
