"""What the classes of a model and an objective return is held against what is made of it."""

from collections.abc import Callable
from typing import Any

import problems
import pytest
import torch
from own_models import tried
from torch import Tensor, nn

from evidence import models
from evidence.distributions import DiagonalNormal, SemiImplicit
from evidence.errors import UserError
from evidence.models import LatentVariableModel
from evidence.objectives import ELBO, SIVI, UIVI, Estimate, Objective
from evidence.objectives.reverse_conditional import HMCSampler
from evidence.training import Segment, parameter_groups, train

pytestmark = pytest.mark.usefixtures("float64")


class Own(Objective):
    """Returns what `change` makes of the ELBO's estimate."""

    def __init__(self, change: Callable[[Estimate], object]) -> None:
        super().__init__()
        self.change, self.inner = change, ELBO(2)
        self.steps = 0

    def forward(self, model: LatentVariableModel, x: Tensor) -> Any:
        return self.change(self.inner(model, x))


def with_metrics(**metrics: object) -> Callable[[Estimate], object]:
    return lambda estimate: Estimate(
        estimate.surrogate, {name.replace("__", "/"): v for name, v in metrics.items()}
    )  # type: ignore[misc]


ONE = torch.tensor(1.0)
RETURNS: dict[str, tuple[Callable[[Estimate], object], str]] = {
    "a tensor": (
        lambda e: e.surrogate,
        r"returned a tensor \[3\].*; it must return Estimate\(surrogate \[B\], metrics\)",
    ),
    "three things": (lambda e: (*e, 1), r"returned a tuple; it must return Estimate"),
    "nothing": (lambda e: None, r"returned a NoneType; it must return Estimate"),
    "no metrics": (
        lambda e: Estimate(e.surrogate, {}),
        "metrics is a dict; it must be a dict with at least one",
    ),
    "a list of metrics": (lambda e: (e.surrogate, [ONE]), "metrics is a list; it must be a dict"),
    "a sum": (
        lambda e: e._replace(surrogate=e.surrogate.sum()),
        r"surrogate .* is a tensor \[\].*\[B\] = \[3\]",
    ),
    "a column": (
        lambda e: e._replace(surrogate=e.surrogate[:, None]),
        r"is a tensor \[3, 1\].*\[B\] = \[3\]",
    ),
    "no graph": (lambda e: e._replace(surrogate=e.surrogate.detach()), "no parameter is in the graph"),
    "another graph": (
        lambda e: e._replace(surrogate=torch.ones(len(e.surrogate), requires_grad=True) * 2),
        "no parameter",
    ),
    "a float": (with_metrics(elbo=1.5), "metric 'elbo' is a float; it must be a detached real number"),
    "a vector": (
        lambda e: e._replace(metrics={"elbo": e.surrogate.detach()}),
        r"metric 'elbo' is a tensor \[3\]",
    ),
    "a metric with a graph": (
        lambda e: e._replace(metrics={"elbo": e.surrogate.mean()}),
        "with a graph; it must be a detached",
    ),
    "a complex number": (with_metrics(elbo=torch.tensor(1j)), "it must be a detached real number"),
    "valid/": (with_metrics(valid__nll=ONE), "metric 'valid/nll' is of a group of the runner's own"),
    "test/": (with_metrics(elbo=ONE, test__x=ONE), "metric 'test/x' is of a group of the runner's own"),
    "speed/": (with_metrics(speed__x=ONE), "metric 'speed/x' is of a group of the runner's own"),
    "twice": (with_metrics(elbo=ONE, train__elbo=ONE), "'elbo' and 'train/elbo' have the same name"),
    "a name for no store": (lambda e: e._replace(metrics={"E[log w]": ONE}), "must have a name of letters"),
    "a path": (lambda e: e._replace(metrics={"../elbo": ONE}), "must have a name of letters"),
    "no name": (lambda e: e._replace(metrics={1: ONE}), "metric 1 must have a name"),
}


@pytest.mark.parametrize("case", RETURNS)
def test_an_objective_is_told_what_it_returned_and_what_it_must(case: str) -> None:
    change, words = RETURNS[case]
    with pytest.raises(UserError, match=rf"(^|of )test_forms\.Own\.forward.*{words}|{words}") as raised:
        tried(problems.linear_gaussian(), Own(change))
    assert "test_forms.Own.forward" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_what_serves_is_taken() -> None:
    """A plain pair; metrics of the user's own groups, of integers, of truth values, and of half precision."""
    metrics = {
        "mine/elbo": ONE,
        "train/x": ONE,
        "n": torch.tensor(3),
        "is": torch.tensor(True),
        "h": ONE.bfloat16(),
    }
    assert tried(problems.linear_gaussian(), Own(lambda e: (e.surrogate, metrics))) == []


def test_metrics_that_change_are_refused_in_the_trial_and_later() -> None:
    class Changing(Own):
        def forward(self, model: LatentVariableModel, x: Tensor) -> Any:
            self.steps += 1
            metrics = {"elbo": ONE} | ({"late": ONE} if self.steps >= self.first else {})
            return self.inner(model, x)._replace(metrics=metrics)

    objective = Changing(lambda e: e)
    objective.first = 2
    with pytest.raises(
        UserError, match=r"returned the metrics elbo and then elbo, late; they must be the same"
    ):
        tried(problems.linear_gaussian(), objective)
    for first, words in (
        (6, r"step 6: the objective's metrics are others than a step before \(late\)"),
        (5, None),
    ):
        objective.first, objective.steps = first, 0
        model = problems.linear_gaussian()
        optimizer = torch.optim.SGD(parameter_groups(model, objective, 1.0))  # type: ignore[arg-type]
        batches = iter([problems.images(4)] * 9)
        reports = train(model, objective, optimizer, batches, [Segment(8, 0.0)], "sum", 4)
        if words is None:
            assert [list(report.metrics) for report in reports] == [["elbo"], ["elbo", "late"]]
        else:
            with pytest.raises(UserError, match=words):
                list(reports)


def test_metrics_are_averaged_exactly_whatever_numbers_they_are() -> None:
    values = {
        "is": torch.tensor(True),
        "n": torch.tensor(200, dtype=torch.uint8),
        "h": torch.tensor(-90.5).bfloat16(),
    }
    model, objective = problems.linear_gaussian(), Own(lambda e: e._replace(metrics=values))
    optimizer = torch.optim.SGD(parameter_groups(model, objective, 1.0))  # type: ignore[arg-type]
    (report,) = train(
        model, objective, optimizer, iter([problems.images(4)] * 300), [Segment(300, 0.0)], "sum", 300
    )
    assert report.metrics == {"is": 1.0, "n": 200.0, "h": -90.5}


class Bare(nn.Module):
    """Returns what it is told."""

    def __init__(self, found: Callable[..., object]) -> None:
        super().__init__()
        self.found, self.weight = found, nn.Parameter(torch.ones(()))

    def forward(self, *inputs: Tensor) -> object:
        return self.found(*inputs)


class Squashed(DiagonalNormal):
    """tanh of a normal, without its density."""

    def rsample(self, noise: Tensor) -> Tensor:
        return torch.tanh(super().rsample(noise))


class Honest(Squashed):
    """With its density, but not its expectation."""

    def rsample_and_log_prob(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        z = self.rsample(noise)
        return z, DiagonalNormal(*self).rsample_and_log_prob(noise)[1] - torch.log1p(-z.square()).sum(-1)

    def log_prob(self, z: Tensor) -> Tensor:
        return DiagonalNormal(*self).log_prob(torch.atanh(z)) - torch.log1p(-z.square()).sum(-1)


class Unsummed(DiagonalNormal):
    """A log density for each dimension."""

    def log_prob(self, z: Tensor) -> Tensor:
        return -((z - self.mean) ** 2)


class Tempered(LatentVariableModel):
    def log_joint(self, x: Tensor, z: Tensor) -> Tensor:
        return self.prior().log_prob(z) + 0.999 * self.likelihood(z).log_prob(x)


class OwnWeights(LatentVariableModel):
    def log_weights_at(self, noise: Tensor, q: Any, x: Tensor) -> Tensor:
        return 0.5 * super().log_weights_at(noise, q, x)


def replaced(where: str, found: Callable[..., object], *of: LatentVariableModel) -> LatentVariableModel:
    """A model with `found` of what one of its modules returns."""
    model = of[0] if of else problems.linear_gaussian()
    setattr(
        model, where, nn.Sequential(getattr(model, where), Bare(found)) if where != "prior" else Bare(found)
    )
    return model


def of_class(kind: type[LatentVariableModel], sizes: list[int]) -> LatentVariableModel:
    model = problems.linear_gaussian()
    return kind(model.prior, model.likelihood, model.posterior, sizes)


def wide(q: DiagonalNormal) -> DiagonalNormal:
    return DiagonalNormal(5 + q.mean, q.scale)


MODELS: dict[str, tuple[Callable[[], object], str]] = {
    "no model": (
        lambda: nn.Linear(2, 2),
        r"^model\._target_ gives a torch\..*Linear; it must give a .*LatentVariableModel",
    ),
    "layers": (
        lambda: of_class(LatentVariableModel, [1, 3]),
        r"latent_sizes=\[1, 3\] add up to 4, and must to the 2",
    ),
    "posterior": (
        lambda: replaced("posterior", lambda q: q.mean),
        r"returned a tensor .*no noise and no rsample",
    ),
    "prior": (
        lambda: replaced("prior", lambda: torch.zeros(2)),
        r"Bare\.forward returned a tensor .*no noise",
    ),
    "likelihood": (
        lambda: replaced("likelihood", lambda p: None),
        r"returned a NoneType, which has no log_prob and no mean",
    ),
    "unsummed prior": (
        lambda: replaced("prior", lambda: Unsummed(torch.zeros(2), torch.ones(2))),
        r"log p\(z\) of .*is a tensor \[2, 3, 2\].*\[K, B\] = \[2, 3\]",
    ),
    "unsummed likelihood": (
        lambda: replaced("likelihood", lambda p: Unsummed(*p)),
        r"log p\(x \| z\) of .*is a tensor \[2, 3, 4\]",
    ),
    "one pixel": (
        lambda: replaced("likelihood", lambda p: DiagonalNormal(p.mean[..., :1], p.scale[:1])),
        r"mean of .* is a tensor \[2, 3, 1\].*\[2, 3, 4\]",
    ),
    "squashed": (
        lambda: replaced("posterior", lambda q: Squashed(*wide(q))),
        "log_prob and rsample_and_log_prob differ",
    ),
    "honest": (
        lambda: replaced("posterior", lambda q: Honest(q.mean + 1, q.scale)),
        "expectation is not the mean of the z",
    ),
    "tempered": (
        lambda: of_class(Tempered, [2]),
        r"log_joint, .* and log p\(z\) \+ log p\(x \| z\), .* differ",
    ),
    "own weights": (lambda: of_class(OwnWeights, [2]), "log_weights_at and .* differ"),
}


@pytest.mark.parametrize("case", MODELS)
def test_a_model_is_told_what_it_returned_and_what_it_must(case: str) -> None:
    make, words = MODELS[case]
    with pytest.raises(UserError, match=words) as raised:
        tried(make(), ELBO(2))
    assert "\n" not in str(raised.value)


def test_a_posterior_without_a_density_is_held_to_its_formulas() -> None:
    def changed(change: Callable[[SemiImplicit], SemiImplicit]) -> LatentVariableModel:
        mean = torch.full((problems.X_DIM,), 0.3)
        model = models.semi_implicit(problems.X_DIM, 3, 2, [7, 7], "tanh", 0.5, 1e-5, mean)
        return replaced("posterior", change, model)

    def wrong(q: SemiImplicit) -> SemiImplicit:
        assert q.pullback is not None
        pullback = q.pullback
        return q._replace(pullback=lambda eps: (pullback(eps)[0], lambda c: 2 * pullback(eps)[1](c)))

    assert tried(changed(lambda q: q), SIVI(1, 3)) == []
    with pytest.raises(UserError, match="the derivative by pullback and that of mean"):
        tried(changed(wrong), UIVI(1, HMCSampler(1, 1, 2, 0.1, 0.9, 0.01)))
    with pytest.raises(UserError, match=r"scale of .* is a tensor \[2, 3, 3\].*\[D\] or \[B, D\] = \[3, 3\]"):
        tried(changed(lambda q: q._replace(scale=q.scale.expand(2, 3, 3))), SIVI(1, 3))
