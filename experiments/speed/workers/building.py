"""From the images to evidence's own parts, and its own training loop as something to be timed."""

import os
from collections.abc import Sequence

import numpy as np
import torch

from evidence import data, execution, models, training
from evidence.objectives import Objective
from experiments.speed.setting import ADAM_EPS, GREY, HIDDEN, LATENT, LEARNING_RATE, PIXELS, ROOT
from experiments.speed.workers.devices import wait
from experiments.speed.workers.protocol import Run

ENDLESS = 10**9  # steps


def training_images() -> tuple[np.ndarray, str]:
    """uint8 [N, 784] and what they are: MNIST from the data folder, or, where it is not there, made up.

    Denormal numbers come as a model grows certain of real pixels, so made-up ones flatter who does not flush them.
    """
    folder = ROOT / os.environ.get("EVIDENCE_DATA", "data")
    if (folder / "mnist").is_dir():
        return data.mnist(folder, PIXELS, "stochastic").train.numpy(), "MNIST"
    made_up = np.random.default_rng(0).random((2000, PIXELS)) ** 6
    return (made_up * GREY).astype(np.uint8), "made up, since there is no mnist/ in the data folder"


def set_up(device: torch.device) -> None:
    """As every run does it: denormals flushed, and matrix products by the library that is faster here."""
    execution.prepare("float32")
    execution.settle(device, False, False, None, False)


def dataset(images: np.ndarray) -> data.Dataset:
    """The images as a data set to train on; the first hundred, at a threshold, to score."""
    train = torch.from_numpy(images)
    scored = (train[:100] > GREY // 2).to(torch.uint8)
    return data.Dataset(train, GREY, scored, scored, (28, 28), {})


def one_layer(images: np.ndarray, latent: Sequence[int] = (LATENT,)) -> models.LatentVariableModel:
    """The model of conf/model/one_layer.yaml, or one of other stochastic layers with as many units between them."""
    hidden = [[HIDDEN, HIDDEN]] * len(latent)
    return models.hierarchical(PIXELS, list(latent), hidden, "tanh", data.mean_pixels(dataset(images)))


def loop(
    model: models.LatentVariableModel,
    objective: Objective,
    images: np.ndarray,
    batch: int,
    device: torch.device,
    report_every: int,
) -> Run:
    """The training loop that a user runs, from one report to the next."""
    model.to(device)
    objective.to(device)
    groups = training.parameter_groups(model, objective, scale_rate=1.0)
    optimizer = torch.optim.Adam(groups, lr=LEARNING_RATE, eps=ADAM_EPS, fused=True)
    reports = training.train(
        model,
        objective,
        optimizer,
        data.batches(dataset(images), batch, 0, 0, device),
        [training.Segment(ENDLESS, LEARNING_RATE)],
        "sum",
        report_every,
    )

    def run(count: int) -> int:
        turns = -(-count // report_every)
        for _ in range(turns):
            next(reports)
        wait(device)
        return turns * report_every

    return run
