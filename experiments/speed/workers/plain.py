"""The peer that everybody can write: IWAE in eager PyTorch, with `tuned` also denormals flushed and a fused Adam."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.speed.setting import ADAM_EPS, BATCH, GREY, HIDDEN, LATENT, LEARNING_RATE, PIXELS, task
from experiments.speed.workers.devices import wait
from experiments.speed.workers.protocol import Run, serve


class Autoencoder(nn.Module):
    """q(z | x) = N(mean(x), exp(log_scale(x))^2) and p(x | z) = Bernoulli(sigmoid(decoder(z)))."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(PIXELS, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, HIDDEN), nn.Tanh())
        self.mean, self.log_scale = nn.Linear(HIDDEN, LATENT), nn.Linear(HIDDEN, LATENT)
        self.decoder = nn.Sequential(
            nn.Linear(LATENT, HIDDEN),
            nn.Tanh(),
            nn.Linear(HIDDEN, HIDDEN),
            nn.Tanh(),
            nn.Linear(HIDDEN, PIXELS),
        )

    def loss(self, x: Tensor, noise: Tensor) -> Tensor:
        """-sum over the batch of log (1/k) sum_i w_i: x [B, X], noise [k, B, D]."""
        h = self.trunk(x)
        mean, log_scale = self.mean(h), self.log_scale(h)
        z = mean + log_scale.exp() * noise
        logits = self.decoder(z)
        log_likelihood = (x * logits - F.softplus(logits)).sum(-1)
        log_prior = -0.5 * z.square().sum(-1)
        log_q = -0.5 * noise.square().sum(-1) - log_scale.sum(-1)  # both less the same constant
        log_w = log_likelihood + log_prior - log_q
        return -(torch.logsumexp(log_w, 0) - math.log(len(noise))).sum()


def prepare(case: str) -> Run:
    """The case is k."""
    k = int(case)
    model = Autoencoder().to(DEVICE)
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, eps=ADAM_EPS, fused=TUNED or None)

    def run(count: int) -> int:
        for _ in range(count):
            rows = torch.randint(len(IMAGES), (BATCH,), device=DEVICE)
            x = torch.bernoulli(IMAGES[rows].float() / GREY)
            noise = torch.randn(k, BATCH, LATENT, device=DEVICE)
            optimizer.zero_grad()
            model.loss(x, noise).backward()
            optimizer.step()
        wait(DEVICE)
        return count

    return run


if __name__ == "__main__":
    images, device, options = task()
    TUNED = "tuned" in options
    torch.set_flush_denormal(TUNED)
    DEVICE = torch.device(device)
    IMAGES = torch.from_numpy(images).to(DEVICE)
    serve(prepare)
