"""Every estimate of log p(x), image by image, of trained runs' models and of one whose log p(x) is known."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor

from evidence import streams
from evidence.data import evenly_spaced_rows
from evidence.evaluation import (
    AnnealedImportanceSampling,
    ImportanceSampling,
    Jackknife,
    Metric,
    Noise,
    ParetoK,
    WithMetrics,
    sizes,
)
from evidence.models import LatentVariableModel
from evidence.report import measurements
from evidence.report.measurements import CPU
from evidence.streams import forked_rng
from experiments.bounds.linear_gaussian import linear_gaussian

MEASURING = __name__
EXACT = "estimates-linear_gaussian.csv"
SAMPLES, GROUP = 5_000, 50  # S of L_S, and K of the jackknives
POINTS = 200  # x drawn from the linear-Gaussian model
SEED = 0
NAMES = {  # of estimates of -log p(x), and of what says whether to believe them
    "nll_group": "group",
    "nll": "importance",
    "jvi_1": "jvi_1",
    "jvi_2": "jvi_2",
    "nll_ais": "ais",
    "bdmc_nll_upper": "simulated_upper",
    "bdmc_nll_lower": "simulated_lower",
}
FACTS = ("khat", "khat_above", "effective_sample_size", "ais_acceptance")


class Annealing(NamedTuple):
    """Chains for each image, and temperatures."""

    chains: int
    temperatures: int


def evaluator(annealing: Annealing, rows: int) -> WithMetrics:
    """L_S with the three judges, as conf/eval/ais.yaml has them but for the numbers of chains and temperatures."""
    chains = AnnealedImportanceSampling(
        annealing.chains, annealing.temperatures, 5, 0.05, 0.65, simulated=True
    )
    metrics: dict[str, Metric] = {"ais": chains, "khat": ParetoK(), "jackknife": Jackknife(GROUP)}
    return WithMetrics(ImportanceSampling(SAMPLES, rows), metrics, defaultdict(float))


@torch.no_grad()
def estimates(
    model: LatentVariableModel, x: Tensor, numbers: Sequence[int], judge: WithMetrics
) -> list[dict[str, float]]:
    """A row for each image x [B, X], whose noise is that of its number. Estimates are of log p(x), in nats."""
    noise = Noise(SEED, streams.TEST, torch.tensor(numbers))
    with noise.of_batch(0, x.device):
        found = judge.scores(model, x)
    columns = {name: -found[metric] for metric, name in NAMES.items()} | {name: found[name] for name in FACTS}
    rows = zip(*(values.tolist() for values in columns.values()), strict=True)
    return [
        {"image": number} | dict(zip(columns, row, strict=True))
        for number, row in zip(numbers, rows, strict=True)
    ]


def measure_linear_gaussian(folder: Path, annealing: Annealing) -> None:
    """x are drawn from the model itself; `exact` is log p(x)."""
    with forked_rng(CPU, SEED):
        model = linear_gaussian()
        x = model.likelihood.evidence().sample((POINTS,))
    exact = model.likelihood.evidence().log_prob(x)
    judge = evaluator(annealing, sizes(CPU).rows)

    def rows(numbers: Sequence[int]) -> list[dict[str, float]]:
        found = estimates(model, x[list(numbers)], numbers, judge)
        return [row | {"exact": float(exact[number])} for number, row in zip(numbers, found, strict=True)]

    same = {**measurements.source(MEASURING), **_settings(annealing)}
    measurements.complete(folder / EXACT, range(POINTS), rows, same)


def measure_trained(folder: Path, run: "pd.Series[str]", images: int, annealing: Annealing) -> None:
    """estimates-<run>.csv, of the run's model for so many evenly spaced test images."""
    subject = measurements.subject(run, MEASURING)
    judge = evaluator(annealing, sizes(subject.device).rows)

    def rows(numbers: Sequence[int]) -> list[dict[str, float]]:
        return estimates(subject.model, subject.placed(subject.test[list(numbers)]), numbers, judge)

    chosen = evenly_spaced_rows(len(subject.test), images).tolist()
    same = {**subject.same, **_settings(annealing)}
    path = folder / f"estimates-{run['run']}.csv"
    measurements.complete(path, chosen, rows, same, subject.device)


def _settings(annealing: Annealing) -> dict[str, object]:
    return {"chains": annealing.chains, "temperatures": annealing.temperatures}
