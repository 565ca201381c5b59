"""L_k for each image and k, of a trained run's model and of one whose log p(x) is known, measured into files."""

from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from evidence.models import LatentVariableModel
from evidence.numerics import forked_rng
from evidence.runs import runtime
from experiments import by_image, provenance
from experiments.bounds.estimates import POOL, POOLS, Draws, ladder, moments
from experiments.bounds.linear_gaussian import linear_gaussian, weight_variance
from experiments.trained import trained

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
    origin = provenance.here(torch.device("cpu"))

    def rows(number: int) -> list[dict[str, object]]:
        exact = log_evidence[number]
        found = []
        for draws in _ladder(model, x[number : number + 1], number):
            excess = draws.log_means - exact
            about = {
                "log_evidence": exact.item(),
                "gap": (excess.expm1() - excess)
                .mean()
                .item(),  # E exp(excess) = 1 takes most of the noise away
                "asymptote": variance[number].item() / (2 * draws.k),
            }
            found.append({"image": number, **moments(draws), **about, **origin})
        return found

    by_image.complete(folder / EXACT, range(points), rows, provenance.source(MEASURING))


def measure_trained(folder: Path, run: "pd.Series[str]", images: int) -> None:
    """ladder-<run>.csv, of the run's model for so many test images."""
    device = runtime.choose_device("auto", 0)
    parts = trained(run, device.type).parts
    test = parts.dataset.test
    origin = provenance.here(device)

    def rows(image: int) -> list[dict[str, object]]:
        x = test[image : image + 1].to(device, torch.get_default_dtype())
        return [{"image": image, **moments(draws), **origin} for draws in _ladder(parts.model, x, image)]

    same = {**provenance.source(MEASURING), "record": run["record"]}
    chosen = by_image.evenly_spaced(images, len(test))
    by_image.complete(folder / f"ladder-{run['run']}.csv", chosen, rows, same)


def _ladder(model: LatentVariableModel, x: Tensor, number: int) -> list[Draws]:
    with torch.no_grad(), forked_rng(x.device, NOISE_SEED, number):
        return list(ladder(lambda: model.log_weights(x, POOL)[:, 0].double(), POOLS))
