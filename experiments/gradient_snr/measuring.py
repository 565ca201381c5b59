"""Gradients of many draws at a time on the linear-Gaussian model, measured into a file."""

from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor

from evidence.numerics import forked_rng
from evidence.objectives import Objective
from evidence.report import measurements
from evidence.report.measurements import CPU
from experiments.gradient_snr import gaussian
from experiments.gradient_snr.estimators import ESTIMATORS, KS

MEASURING = __name__
PAIRS = 10_000  # rows x samples at a time, which a graph keeps whole


class Ratios(NamedTuple):
    """Of R draws of a gradient g [D].

    signal: |E g|^2, without bias |mean g|^2 - variance / R, which may be below zero.
    variance: sum_j Var g_j.
    direction: E |g_parallel| / |g_across|, along and across the mean of the draws (Rainforth et al. 2018, Eq. 12).
    """

    signal: float
    variance: float
    direction: float


def ratios(draws: Tensor) -> Ratios:
    """Of draws [R, D]."""
    mean, variance = draws.mean(0), draws.var(0).sum()
    along = draws @ (mean / mean.norm())
    across = (draws.square().sum(1) - along.square()).clamp(min=0).sqrt()
    return Ratios(
        signal=(mean.square().sum() - variance / len(draws)).item(),
        variance=variance.item(),
        direction=(along.abs() / across).mean().item(),
    )


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
    """gaussian-s<seed>.csv: for each estimator and k the ratios of both gradients; written after each estimator."""
    same = {**measurements.source(MEASURING), "draws": num_draws}
    for seed in range(seeds):
        path = folder / f"gaussian-s{seed}.csv"
        table = measurements.read(path, same)
        for number, (name, estimator) in enumerate(ESTIMATORS.items()):
            if len(table) and name in set(table["estimator"]):
                continue
            rows = []
            for k in KS:
                with forked_rng(CPU, seed, number, k):
                    found = gradients(estimator.make(k), k, num_draws)
                rows += [
                    {"estimator": name, "part": part, "k": k, "seed": seed, **ratios(draws)._asdict()}
                    for part, draws in found.items()
                ]
            fresh = pd.DataFrame([{**row, **same, **measurements.here(CPU)} for row in rows])
            table = pd.concat([table, fresh]) if len(table) else fresh
            measurements.write(path, table)
