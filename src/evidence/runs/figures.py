"""Draws a run's figures from its model, metrics and checkpoints."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from evidence.data import evenly_spaced
from evidence.evaluation import ACTIVE_THRESHOLD, Evaluation
from evidence.modules import scoring
from evidence.parts import Parts
from evidence.records.directory import RunDirectory
from evidence.records.lineage import checkpoint_at

SAMPLES = 64
SAMPLES_OVER_TRAINING = 10
RECONSTRUCTIONS = 20


@torch.no_grad()
def draw(
    directory: RunDirectory,
    same_path: Sequence[RunDirectory],
    parts: Parts,
    images: Tensor,
    scores: Evaluation,
) -> None:
    """Write the figures into directory.figures.

    The figures are prior samples, the same latent draws at the start and at each stage's end, reconstructions of
    test images from one posterior sample each, the training curve, and the histogram of log A_u for each layer.
    """
    import pandas as pd  # takes most of a second with matplotlib; the first step need not wait for it

    from evidence.display import plots

    model, shape, folder = parts.model, parts.dataset.image_shape, directory.figures
    metrics = pd.DataFrame(directory.read_metrics(), columns=["name", "value", "step"])
    plots.training_curve(metrics, folder / "training.png")
    layers = [layer.cpu() for layer in scores.activities]
    plots.activity_histogram(layers, ACTIVE_THRESHOLD, folder / "active_units.png")

    with scoring(model):
        noise = model.prior().noise(SAMPLES)
        plots.image_grid(_decoded(model, noise), shape, folder / "samples.png", "Samples from the prior")

        x = evenly_spaced(images, RECONSTRUCTIONS).to(noise)
        q = model.posterior(x)
        reconstructions = model.likelihood(q.rsample(q.noise(1))[0]).mean
        plots.reconstructions(x.cpu(), reconstructions.cpu(), shape, folder / "reconstructions.png")

        rows = []
        for step in parts.stage_ends:
            if checkpoint := checkpoint_at(same_path, step):
                model.load_state_dict(checkpoint.state["model"])
                rows.append((step, _decoded(model, noise[:SAMPLES_OVER_TRAINING])))
        plots.samples_over_training(rows, shape, folder / "samples_over_training.png")


def _decoded(model: Any, noise: Tensor) -> Tensor:
    mean: Tensor = model.likelihood(model.prior().rsample(noise)).mean
    return mean.cpu()
