"""evidence's UIVI, as it is or, with the option `rest`, without its chain: eps' are then copies of eps."""

import torch
from torch import Tensor

from evidence import data, models
from evidence.distributions import SemiImplicit
from evidence.objectives import UIVI
from evidence.objectives.reverse_conditional import HMCSampler, ReverseSamples
from experiments.speed.setting import HIDDEN, PIXELS, UIVI_BATCH, task
from experiments.speed.workers import building
from experiments.speed.workers.protocol import Run, serve

BURN_IN, KEPT, LEAPFROG = 5, 5, 5


def no_chain(q: SemiImplicit, z: Tensor, eps: Tensor, x: Tensor) -> ReverseSamples:
    """As many eps' as the chain keeps, for nothing: what is left is the rest of the step."""
    return ReverseSamples(eps.expand(KEPT, *eps.shape), {})


def prepare(case: str) -> Run:
    """The case is k, the number of z for each image. Sizes and settings as in conf/objective/uivi.yaml."""
    torch.manual_seed(0)
    chain = HMCSampler(BURN_IN, KEPT, LEAPFROG, 0.05, 0.9, 0.01)
    objective = UIVI(int(case), no_chain if WITHOUT_CHAIN else chain)
    mean_pixels = data.mean_pixels(building.dataset(IMAGES))
    model = models.semi_implicit(PIXELS, 10, 10, [HIDDEN, HIDDEN], "relu", 0.5, 1e-5, mean_pixels)
    return building.loop(model, objective, IMAGES, UIVI_BATCH, DEVICE, 10)


if __name__ == "__main__":
    IMAGES, device, options = task()
    WITHOUT_CHAIN = "rest" in options
    DEVICE = torch.device(device)
    building.set_up(DEVICE)
    serve(prepare)
