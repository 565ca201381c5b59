"""evidence's evaluation of one batch of images, a step being one (image, sample) pair. Option: compiled."""

import torch

from evidence.evaluation import Noise, score, sizes
from evidence.streams import TEST
from experiments.speed.setting import GREY, task
from experiments.speed.workers import building
from experiments.speed.workers.devices import wait
from experiments.speed.workers.protocol import Run, serve


def prepare(case: str) -> Run:
    """The case is how many pairs are computed at a time."""
    pairs = int(case)
    torch.manual_seed(0)
    model = building.one_layer(IMAGES).to(DEVICE)
    x = torch.from_numpy(IMAGES[: sizes(DEVICE).images] > GREY // 2).to(DEVICE, torch.float32)
    noise = Noise(0, TEST, torch.arange(len(x)))

    @torch.no_grad()
    def run(count: int) -> int:
        samples = -(-count // pairs) * pairs // len(x)
        with noise.of_batch(0, DEVICE):
            score(model, x, samples, pairs, COMPILED)
        wait(DEVICE)
        return samples * len(x)

    return run


if __name__ == "__main__":
    IMAGES, device, options = task()
    COMPILED = "compiled" in options
    DEVICE = torch.device(device)
    building.set_up(DEVICE)
    serve(prepare)
