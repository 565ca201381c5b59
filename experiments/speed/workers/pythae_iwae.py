"""The library peer: pythae's own IWAE class and loss, around our network's layers; its backward pass; Adam."""

import torch
from pythae.models import IWAE, IWAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from torch import Tensor, nn

from experiments.speed.setting import ADAM_EPS, BATCH, GREY, HIDDEN, LATENT, LEARNING_RATE, PIXELS, task
from experiments.speed.workers.devices import wait
from experiments.speed.workers.protocol import Run, serve


class Encoder(BaseEncoder):
    """Mean and log variance of q(z | x)."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(PIXELS, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, HIDDEN), nn.Tanh())
        self.mean, self.log_variance = nn.Linear(HIDDEN, LATENT), nn.Linear(HIDDEN, LATENT)

    def forward(self, x: Tensor) -> ModelOutput:
        """As pythae wants it."""
        h = self.trunk(x)
        return ModelOutput(embedding=self.mean(h), log_covariance=self.log_variance(h))


class Decoder(BaseDecoder):
    """The probability of each pixel."""

    def __init__(self) -> None:
        super().__init__()
        hidden = [nn.Linear(LATENT, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, HIDDEN), nn.Tanh()]
        self.layers = nn.Sequential(*hidden, nn.Linear(HIDDEN, PIXELS), nn.Sigmoid())

    def forward(self, z: Tensor) -> ModelOutput:
        """As pythae wants it."""
        return ModelOutput(reconstruction=self.layers(z))


def prepare(case: str) -> Run:
    """The case is k."""
    config = IWAEConfig((PIXELS,), latent_dim=LATENT, reconstruction_loss="bce", number_samples=int(case))
    model = IWAE(config, Encoder(), Decoder()).to(DEVICE)
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, eps=ADAM_EPS)

    def run(count: int) -> int:
        for _ in range(count):
            rows = torch.randint(len(IMAGES), (BATCH,), device=DEVICE)
            x = torch.bernoulli(IMAGES[rows].float() / GREY)
            optimizer.zero_grad()
            model({"data": x}).loss.backward()
            optimizer.step()
        wait(DEVICE)
        return count

    return run


if __name__ == "__main__":
    images, device, _ = task()
    DEVICE = torch.device(device)
    IMAGES = torch.from_numpy(images).to(DEVICE)
    serve(prepare)
