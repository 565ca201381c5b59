"""Metrics of a user's that draw random numbers."""

from collections import defaultdict

import numpy as np
import problems
import pytest
import torch
from torch import Tensor

from evidence.evaluation import ImportanceSampling, evaluate
from evidence.evaluation.metrics import Noise
from evidence.evaluation.user_metrics import WithMetrics, measure_whole
from evidence.models import LatentVariableModel
from evidence.objectives import ELBO, Objective
from evidence.streams import TEST

pytestmark = pytest.mark.usefixtures("float64")

IMAGES = problems.images(250)  # three batches


class Drawn:
    """Draws of torch and of NumPy, a number for each image."""

    def __init__(self) -> None:
        self.heard: list[Tensor] = []

    def __call__(self, model: LatentVariableModel, x: Tensor, log_weights: Tensor) -> dict[str, Tensor]:
        self.heard.append(torch.randn(len(x)) + torch.from_numpy(np.random.randn(len(x))))
        return {f"drawn_{id(self)}": self.heard[-1]}


class DrawnOnce(Drawn):
    """The same for all images together."""

    def of_all(self, model: LatentVariableModel, objective: Objective, images: Tensor) -> dict[str, Tensor]:
        return self(model, images, images)


def heard(seed: int, *metrics: Drawn) -> list[Tensor]:
    """What each of the metrics has drawn."""
    model, named = problems.linear_gaussian(), {str(key): each for key, each in enumerate(metrics)}
    evaluator = WithMetrics(ImportanceSampling(5, 100), named, defaultdict(float))
    noise = Noise(seed, TEST, torch.arange(len(IMAGES)))
    evaluate(model, IMAGES, evaluator, lambda count: None, noise=noise)
    measure_whole(model, ELBO(1), IMAGES, evaluator, noise, set())
    return [torch.cat(each.heard) for each in metrics]


class Training:
    """Changes the model's parameters, as an optimisation for one image would."""

    def __call__(self, model: LatentVariableModel, x: Tensor, log_weights: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.zero_()
        return {"zero": torch.zeros(len(x))}


def test_the_model_is_as_it_was_after_one_that_changes_it() -> None:
    model, found = problems.linear_gaussian(), []
    for metrics in ({}, {"training": Training()}):
        evaluator = WithMetrics(ImportanceSampling(5, 100), metrics, defaultdict(float))
        noise = Noise(0, TEST, torch.arange(len(IMAGES)))
        found.append(evaluate(model, IMAGES, evaluator, lambda count: None, noise=noise).metrics)
    assert found[1] == found[0] | {"zero": 0.0}


@pytest.mark.parametrize("kind", [Drawn, DrawnOnce])
def test_they_depend_on_the_seed_and_the_image_and_on_no_other_metric(kind: type[Drawn]) -> None:
    (found,) = heard(3, kind())
    assert found.unique().numel() == len(IMAGES)
    assert found.equal(heard(3, kind())[0])
    assert found.equal(heard(3, Drawn(), kind())[1])
    assert not found.equal(heard(4, kind())[0])
