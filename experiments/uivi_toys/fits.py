"""A toy fitted by a method, resumably, and the KL divergence it has come to."""

import contextlib
import itertools
import math
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from evidence.evaluation import MIXTURE_BLOCK, log_mixture
from evidence.models import LatentVariableModel
from evidence.parts import Stateful, capture, restore
from evidence.records import checkpoints
from evidence.records.damage import left_out
from evidence.report import measurements
from evidence.report.measurements import CPU
from evidence.streams import forked_rng
from evidence.training import Report, decayed_schedule, parameter_groups, train
from experiments.uivi_toys.methods import METHODS, NUM_Z
from experiments.uivi_toys.targets import targets, toy

PUBLISHED_STEPS = 50_000
LEARNING_RATE, SCALE_RATE, DECAY, DECAY_EVERY = 0.01, 0.2, 0.9, 3_000
REPORT_EVERY = 500  # steps; the state is kept at each report
REPEATS, NUM_SAMPLES, NUM_NOISES = 10, 1_000, 10_000  # R, S and T of the KL
METRICS = {  # of some methods only
    "acceptance": "hmc/acceptance",
    "step_size": "hmc/step_size",
    "effective_samples": "reverse/effective_sample_size",
}


class Divergence(NamedTuple):
    """KL(q || p) in nats, with its standard error."""

    kl: float
    kl_se: float


class Fit(NamedTuple):
    """A toy's model as it stands, and a row for each report up to there."""

    model: LatentVariableModel
    rows: list[dict[str, Any]]


@torch.no_grad()
def divergence(
    model: LatentVariableModel, x: Tensor, repeats: int, num_samples: int, num_noises: int
) -> Divergence:
    """E_q[log q(z) - log p(z)], for one x [1, X] and a target p: R times over S samples z.

    log q(z) is the mixture over T fresh noises and the one that made z. Its expectation is at least E_q log q(z), so
    that the KL is overestimated, the less the larger T. The S samples share the T noises; the repetitions share
    nothing, and give the standard error.
    """
    q = model.posterior(x)
    means = []
    for _ in range(repeats):
        conditional = q.conditional(q.noise(num_samples))
        z, generating = conditional.rsample_and_log_prob(
            torch.randn_like(conditional.mean)
        )  # [S, 1, D], [S, 1]
        fresh = log_mixture(z, q.mean(q.noise(num_noises)), q.scale, MIXTURE_BLOCK)  # log sum over T
        log_q = torch.logaddexp(fresh, generating).double() - math.log(num_noises + 1)
        means.append((log_q - model.log_joint(x, z).double()).mean())
    found = torch.stack(means)
    return Divergence(found.mean().item(), found.std().item() / math.sqrt(repeats))


def fit(name: str, method: str, seed: int, steps: int, state_path: Path) -> Fit:
    """The target `name` fitted for `steps` steps of the published schedule, going on from the state under the path.

    Stopped at any moment and called again, it ends with the same bits as an uninterrupted fit. Only a row's
    `seconds_per_step` differs: the CPU seconds of this thread for a step since the last report, without the KL.
    A state that other code has left is not gone on from.
    """
    torch.manual_seed(seed)
    model = toy(targets()[name])
    objective = METHODS[method].objective()
    groups = parameter_groups(model, objective, SCALE_RATE)
    optimizer = torch.optim.RMSprop(groups, lr=LEARNING_RATE, alpha=0.9, eps=1.0)
    parts: dict[str, Stateful] = {
        "model": model,
        "objective": objective,
        "optimizer": optimizer,
    }
    source = measurements.source(__name__)
    begun: dict[str, Any] = {}
    with left_out(state_path), contextlib.suppress(FileNotFoundError):
        begun = checkpoints.load(state_path)
    if begun.get("source") != source["source"]:
        begun = {"step": 0, "rows": []}
    if begun["step"]:
        restore(begun, parts)
    rows, x = begun["rows"], torch.empty(NUM_Z, 0)
    schedule = decayed_schedule(steps, LEARNING_RATE, DECAY, DECAY_EVERY)
    loop = train(
        model,
        objective,
        optimizer,
        itertools.repeat(x),
        schedule,
        "sum",
        REPORT_EVERY,
        begun["step"],
        seed=seed,
    )
    last_step, began = begun["step"], time.thread_time()
    for report in loop:
        seconds = (time.thread_time() - began) / (report.step - last_step)
        fitted = {"target": name, "method": method, "seed": seed}
        rows.append(fitted | _row(model, report, seed) | {"seconds_per_step": seconds} | source)
        state = {"step": report.step, "rows": rows, **source}
        checkpoints.save(state_path, state | capture(parts))
        last_step, began = report.step, time.thread_time()
    return Fit(model, rows)


def _row(model: LatentVariableModel, report: Report, seed: int) -> dict[str, Any]:
    with forked_rng(CPU, seed, report.step):
        found = divergence(model, torch.empty(1, 0), REPEATS, NUM_SAMPLES, NUM_NOISES)
    first, second = model.posterior(torch.empty(1, 0)).scale.tolist()
    return {
        "step": report.step,
        **found._asdict(),
        **{column: report.metrics[key] for column, key in METRICS.items() if key in report.metrics},
        "sigma_1": first,
        "sigma_2": second,
        "budget": f"{report.step:,} of {PUBLISHED_STEPS:,} steps",
        **measurements.here(CPU),
    }
