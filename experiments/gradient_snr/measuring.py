"""The gradients' ratios on the linear-Gaussian model, many draws at a time, and on a trained model, into files."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from evidence.evaluation.gradients import GradientSNR, Ratios, ratios
from evidence.objectives import Objective
from evidence.report import measurements
from evidence.report.measurements import CPU
from evidence.streams import TEST, Stream, drawing, forked_rng
from experiments.gradient_snr import gaussian
from experiments.gradient_snr.estimators import ESTIMATORS, KS

MEASURING = __name__
PAIRS = 10_000  # rows x samples at a time, which a graph keeps whole
TRAINED = GradientSNR(num_draws=100, batch_size=20, num_batches=3)
TRAINED_KS = KS[:3]


def gradients(objective: Objective, k: int, num_draws: int) -> dict[str, Tensor]:
    """Draws [R, D] of the gradients by b, the encoder's, and by mu, the decoder's, for one image x."""
    found: dict[str, list[Tensor]] = {"encoder": [], "decoder": []}
    lacking = num_draws
    while lacking:
        rows = min(lacking, max(1, PAIRS // k))
        model = gaussian.model(rows)
        surrogate = objective(model, torch.full((rows, gaussian.DIM), gaussian.PIXEL)).surrogate.sum()
        offsets = [dict(part.named_parameters())["offset"] for part in (model.posterior, model.prior)]
        parts = torch.autograd.grad(surrogate, offsets)
        for each, part in zip(found.values(), parts, strict=True):
            each.append(part)
        lacking -= rows
    return {name: torch.cat(each).double() for name, each in found.items()}


def measure(folder: Path, num_draws: int, seeds: int) -> None:
    """gaussian-s<seed>.csv: for each estimator and k the ratios of both gradients of one image."""

    def found(number: int, objective: Objective, k: int, seed: int) -> dict[str, Ratios]:
        with forked_rng(CPU, seed, number, k):
            return {part: ratios(draws) for part, draws in gradients(objective, k, num_draws).items()}

    same = {**measurements.source(MEASURING), "draws": num_draws}
    for seed in range(seeds):
        _complete(folder / f"gaussian-s{seed}.csv", KS, seed, found, same, CPU)


def measure_trained(folder: Path, run: "pd.Series[str]", seeds: int) -> None:
    """trained-<run>-s<seed>.csv: the same of a trained run's model, for batches of test images."""
    subject = measurements.subject(run, MEASURING)
    images = subject.placed(subject.test)

    def found(number: int, objective: Objective, k: int, seed: int) -> dict[str, Ratios]:
        with drawing(Stream(seed, TEST, number)):
            return TRAINED.ratios(subject.model, objective.to(subject.device), images)

    same = {**subject.same, "draws": TRAINED.num_draws}
    for seed in range(seeds):
        path = folder / f"trained-{run['run']}-s{seed}.csv"
        _complete(path, TRAINED_KS, seed, found, same, subject.device)


def _complete(
    path: Path,
    ks: Sequence[int],
    seed: int,
    found: Callable[[int, Objective, int, int], dict[str, Ratios]],
    same: Mapping[str, object],
    device: torch.device,
) -> None:
    """Add to the file the rows of the estimators that it lacks; it is written after each estimator."""
    table = measurements.read(path, same)
    for number, (name, estimator) in enumerate(ESTIMATORS.items()):
        if len(table) and name in set(table["estimator"]):
            continue
        rows = [
            {"estimator": name, "part": part, "k": k, "seed": seed, **each._asdict()}
            for k in ks
            for part, each in found(number, estimator.make(k), k, seed).items()
        ]
        fresh = pd.DataFrame([{**row, **same, **measurements.here(device)} for row in rows])
        table = pd.concat([table, fresh]) if len(table) else fresh
        measurements.write(path, table)
