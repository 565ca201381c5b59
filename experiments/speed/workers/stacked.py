"""evidence's stack: runs that take their steps together, on a GPU by replaying a captured graph.

Options: iwae, iwae_top, two_layers or uivi; how many runs; float32 or tf32. The case is k.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from evidence import data, execution, models, training
from evidence.captured import Repeat, Replay
from evidence.data import Batches
from evidence.objectives import IWAE, UIVI, Objective
from evidence.objectives.reverse_conditional import HMCSampler
from evidence.parts import Parts
from evidence.stack import Member, Stack
from experiments.speed.setting import (
    ADAM_EPS,
    BATCH,
    HIDDEN,
    LATENT,
    LEARNING_RATE,
    NUM_EXACT,
    PIXELS,
    UIVI_BATCH,
    task,
)
from experiments.speed.workers import building
from experiments.speed.workers.protocol import Run, serve

IMAGES: np.ndarray
Problem = tuple[models.LatentVariableModel, Objective, int]  # the last is the batch size


def two_layers(k: int) -> Problem:
    """Burda et al. 2015, Section 5: 784-200-200-100-100-100-50."""
    hidden = [[HIDDEN, HIDDEN], [HIDDEN // 2, HIDDEN // 2]]
    mean_pixels = data.mean_pixels(building.dataset(IMAGES))
    return models.hierarchical(PIXELS, [2 * LATENT, LATENT], hidden, "tanh", mean_pixels), IWAE(k), BATCH


def uivi(k: int) -> Problem:
    """As in conf/objective/uivi.yaml."""
    mean_pixels = data.mean_pixels(building.dataset(IMAGES))
    model = models.semi_implicit(PIXELS, 10, 10, [HIDDEN, HIDDEN], "relu", 0.5, 1e-5, mean_pixels)
    return model, UIVI(k, HMCSampler(5, 5, 5, 0.05, 0.9, 0.01)), UIVI_BATCH


PROBLEMS: dict[str, Callable[[int], Problem]] = {
    "iwae": lambda k: (building.one_layer(IMAGES), IWAE(k), BATCH),
    "iwae_top": lambda k: (building.one_layer(IMAGES), IWAE(k, NUM_EXACT), BATCH),
    "two_layers": two_layers,
    "uivi": uivi,
}


def prepare(case: str) -> Run:
    """A step of all runs counts as one for each."""
    images = building.dataset(IMAGES)
    members = []
    for seed in range(RUNS):
        torch.manual_seed(seed)
        model, objective, batch = PROBLEMS[KIND](int(case))
        if objective.compiled_part is not None:
            objective.compiled_part.is_compiled = RUNS == 1
        model.to(DEVICE)
        objective.to(DEVICE)
        groups = training.parameter_groups(model, objective, 1.0)
        optimizer = torch.optim.Adam(groups, lr=LEARNING_RATE, eps=ADAM_EPS)
        parts = Parts(images, data.mean_pixels(images), model, objective, optimizer, [])
        members.append(Member(parts, seed, Batches.of(images, batch, seed, DEVICE)))
    repeat = partial(Replay, device=DEVICE) if DEVICE.type == "cuda" else Repeat
    stack = Stack(members, "sum", 0, objective.is_compilable, repeat)
    stack.set_rates([LEARNING_RATE] * RUNS)

    def run(count: int) -> int:
        stack.advance(-(-count // RUNS))
        stack.report(count, ends_segment=False)
        return -(-count // RUNS) * RUNS

    return run


if __name__ == "__main__":
    IMAGES, device, (KIND, runs, precision) = task()
    RUNS, DEVICE = int(runs), torch.device(device)
    building.set_up(DEVICE)
    execution.prepare("tf32" if precision == "tf32" else "float32")
    serve(prepare)
