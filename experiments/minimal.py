"""An importance-weighted autoencoder in one file: the data, the model, the training loop and the score.

`python experiments/minimal.py` takes half a minute on scikit-learn's digits, without a network. It uses the parts
of the package and records nothing. Burda, Grosse and Salakhutdinov (2015), "Importance weighted autoencoders".
"""

import torch
from torch import Tensor, nn

from evidence import data, streams
from evidence.distributions import Bernoulli, DiagonalNormal
from evidence.evaluation import ImportanceSampling, Noise, evaluate
from evidence.models import LatentVariableModel
from evidence.networks import StandardNormalPrior
from evidence.numerics import log_mean_exp

PIXELS, HIDDEN, LATENT = 64, 100, 20
K, BATCH, LEARNING_RATE = 20, 50, 1e-3


class Encoder(nn.Module):
    """q(z | x): a Gaussian whose mean and log scale are functions of x."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(PIXELS, HIDDEN), nn.Tanh())
        self.mean, self.log_scale = nn.Linear(HIDDEN, LATENT), nn.Linear(HIDDEN, LATENT)

    def forward(self, x: Tensor) -> DiagonalNormal:
        """x [B, X] -> a distribution of z [B, D]."""
        h = self.hidden(x)
        return DiagonalNormal(self.mean(h), self.log_scale(h).exp())


class Decoder(nn.Module):
    """p(x | z): independent pixels whose logits are a function of z."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Sequential(nn.Linear(LATENT, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, PIXELS))

    def forward(self, z: Tensor) -> Bernoulli:
        """z [K, B, D] -> a distribution of x [K, B, X]."""
        return Bernoulli(self.logits(z))


def train(steps: int, dataset: data.Dataset) -> LatentVariableModel:
    """Ascend L_k = E log 1/k sum_i w_i, where log w = log p(x, z) - log q(z | x), by Adam."""
    torch.manual_seed(0)
    model = LatentVariableModel(StandardNormalPrior(LATENT), Decoder(), Encoder(), [LATENT])
    optimizer = torch.optim.Adam(model.parameters(), LEARNING_RATE)
    batches = data.batches(dataset, BATCH, seed=0, first_step=0, device="cpu")
    for step in range(1, steps + 1):
        x = next(batches)  # [B, X], binarized anew each time it is drawn
        log_w = model.log_weights(x, K)  # [k, B]
        bound = log_mean_exp(log_w)  # [B]
        optimizer.zero_grad()
        (-bound.mean()).backward()
        optimizer.step()
        if step % 500 == 0:
            print(f"step {step:5}  L_{K} of the batch {bound.mean().item():7.2f} nats")
    return model


def score(model: LatentVariableModel, images: Tensor) -> dict[str, float]:
    """-L_500 of the images with its standard error, and the number of active units."""
    noise = Noise(seed=0, purpose=streams.TEST, images=torch.arange(len(images)))
    return evaluate(model, images, ImportanceSampling(500, 2000), lambda count: None, noise=noise).metrics


if __name__ == "__main__":
    digits = data.digits(PIXELS, "stochastic")
    found = score(train(4000, digits), digits.test)
    print(f"test NLL {found['nll']:.2f} ± {found['nll_se']:.2f} nats, {found['active_units']} active units")
