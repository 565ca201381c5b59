"""evidence itself: the training loop on IWAE, not compiled. Option: backward (all or top)."""

import torch

from evidence.objectives import IWAE
from experiments.speed.setting import BATCH, NUM_EXACT, task
from experiments.speed.workers import building
from experiments.speed.workers.protocol import Run, serve


def prepare(case: str) -> Run:
    """The case is k."""
    k = int(case)
    torch.manual_seed(0)
    objective = IWAE(k, NUM_EXACT if BACKWARD == "top" else None)
    report_every = 500 if DEVICE.type == "cuda" else max(10, 100 // k)
    return building.loop(building.one_layer(IMAGES), objective, IMAGES, BATCH, DEVICE, report_every)


if __name__ == "__main__":
    IMAGES, device, (BACKWARD,) = task()
    DEVICE = torch.device(device)
    building.set_up(DEVICE)
    serve(prepare)
