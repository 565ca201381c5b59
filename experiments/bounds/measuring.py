"""L_k for each image and k, of a trained run's model and of one whose log p(x) is known, measured into files."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from evidence.models import LatentVariableModel
from evidence.report import measurements
from evidence.streams import forked_rng
from experiments.bounds.estimates import POOL, POOLS, Draws, ladder, moments
from experiments.bounds.linear_gaussian import linear_gaussian, weight_variance

MEASURING = __name__
EXACT = "ladder-linear_gaussian.csv"
POINTS = 1000  # x drawn from the linear-Gaussian model
NOISE_SEED = 0


def measure_linear_gaussian(folder: Path, points: int) -> None:
    """x are drawn from the model itself; the exact answers stand beside the estimates."""
    model = linear_gaussian()
    with forked_rng(torch.device("cpu"), NOISE_SEED):
        x = model.likelihood.evidence().sample((POINTS,))
    log_evidence, variance = model.likelihood.evidence().log_prob(x), weight_variance(model, x)

    def rows(numbers: Sequence[int]) -> list[dict[str, float]]:
        return [
            {"image": number, **moments(draws), **about(draws, number)}
            for number in numbers
            for draws in _ladder(model, x[number : number + 1], number)
        ]

    def about(draws: Draws, number: int) -> dict[str, float]:
        excess = draws.log_means - log_evidence[number]
        return {
            "log_evidence": log_evidence[number].item(),
            # E exp(excess) = 1 takes most of the noise away.
            "gap": (excess.expm1() - excess).mean().item(),
            "asymptote": variance[number].item() / (2 * draws.k),
        }

    measurements.complete(folder / EXACT, range(points), rows, measurements.source(MEASURING))


def measure_trained(folder: Path, run: "pd.Series[str]", images: int) -> None:
    """ladder-<run>.csv, of the run's model for so many test images."""
    subject = measurements.subject(run, MEASURING)

    def rows(image: int, x: Tensor) -> list[dict[str, float]]:
        return [moments(draws) for draws in _ladder(subject.model, x, image)]

    subject.complete(folder / f"ladder-{run['run']}.csv", images, rows)


def _ladder(model: LatentVariableModel, x: Tensor, number: int) -> list[Draws]:
    with torch.no_grad(), forked_rng(x.device, NOISE_SEED, number):
        return list(ladder(lambda: model.log_weights(x, POOL)[:, 0].double(), POOLS))
