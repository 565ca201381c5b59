"""Gradients that weigh samples, again from the papers' formulas: one sample at a time, by copies and plain autograd."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor

from evidence.models import LatentVariableModel

Gradients = dict[str, Tensor]
Formula = Callable[[Tensor], tuple[Tensor, Tensor, str]]
K, GROUPS, BETA, ALPHA = 4, 2, 0.3, 0.3  # of objective_cases.WEIGHTED


def normalised(w: Tensor) -> Tensor:
    return w / w.sum()


def grouped(w: Tensor) -> Tensor:
    return torch.cat([normalised(group) / GROUPS for group in w.chunk(GROUPS)])


def tempered(w: Tensor) -> Tensor:
    return normalised(w ** (1 - ALPHA))


# The weights w [k] of one image -> the decoder's weights, the encoder's, and which derivative these multiply.
FORMULAS: dict[str, Formula] = {
    "dreg": lambda w: (normalised(w), normalised(w) ** 2, "path"),
    "stl": lambda w: (normalised(w), normalised(w), "path"),
    "rws_dreg": lambda w: (normalised(w), normalised(w) - normalised(w) ** 2, "path"),
    "rws, wake": lambda w: (normalised(w), normalised(w), "log q"),
    "miwae": lambda w: (grouped(w), grouped(w), "total"),
    "piwae": lambda w: (normalised(w), grouped(w), "total"),
    "ciwae": lambda w: (
        BETA / K + (1 - BETA) * normalised(w),
        BETA / K + (1 - BETA) * normalised(w),
        "total",
    ),
    "vr_iwae": lambda w: (tempered(w), tempered(w), "total"),
    "vr_iwae, doubly": lambda w: (tempered(w), ALPHA * tempered(w) + (1 - ALPHA) * tempered(w) ** 2, "path"),
}


def sample(model: LatentVariableModel, x: Tensor, noise: Tensor) -> dict[str, tuple[Tensor, Gradients]]:
    """Of one image x [1, X] and one noise [1, 1, D]: log p(x, z) and log q(z | x), and each kind of gradient."""
    named = dict(model.named_parameters())

    def gradients(value: Tensor) -> Gradients:
        found = torch.autograd.grad(value.sum(), list(named.values()), allow_unused=True, retain_graph=True)
        return {
            name: torch.zeros_like(named[name]) if g is None else g
            for name, g in zip(named, found, strict=True)
        }

    z, log_q = model.posterior(x).rsample_and_log_prob(noise)
    fixed = z.detach()
    log_p = model.log_joint(x, fixed)
    frozen = copy.deepcopy(model)
    leaf = fixed.clone().requires_grad_()
    difference = frozen.log_joint(x, leaf) - frozen.posterior(x).log_prob(leaf)
    (along,) = torch.autograd.grad(difference.sum(), leaf)
    return {
        "log p": (log_p.detach().squeeze(), gradients(log_p)),
        "log q": (log_q.detach().squeeze(), gradients(model.posterior(x).log_prob(fixed))),
        "total": (difference.detach().squeeze(), gradients(model.log_joint(x, z) - log_q)),
        "path": (difference.detach().squeeze(), gradients(along * z)),
    }


def gradient(name: str, model: LatentVariableModel, x: Tensor, noise: Tensor) -> Gradients:
    """Summed over the images x [B, X]; noise [k, B, D]."""
    total = {key: torch.zeros_like(value) for key, value in model.named_parameters()}
    for b in range(x.shape[0]):
        terms = [sample(model, x[b : b + 1], noise[i : i + 1, b : b + 1]) for i in range(noise.shape[0])]
        f = torch.stack([each["total"][0] for each in terms])
        of_decoder, of_encoder, kind = FORMULAS[name]((f - f.max()).exp())
        for i, term in enumerate(terms):
            for key in total:
                part = kind if key.startswith("posterior") else "log p"
                weight = of_encoder if key.startswith("posterior") else of_decoder
                total[key] += weight[i] * term[part][1][key]
    return total


def tvo_gradient(beta: list[float], model: LatentVariableModel, x: Tensor, noise: Tensor) -> Gradients:
    """sum_j d_j (mean of grad f + covariance of f and grad log pi~), under self-normalised weights w^beta_j."""
    k = noise.shape[0]
    total = {key: torch.zeros_like(value) for key, value in model.named_parameters()}
    for b in range(x.shape[0]):
        terms = [sample(model, x[b : b + 1], noise[i : i + 1, b : b + 1]) for i in range(k)]
        f = torch.stack([each["total"][0] for each in terms])
        for low, high in zip(beta, [*beta[1:], 1.0], strict=True):
            u = normalised((low * (f - f.max())).exp())
            for key in total:
                log_p, log_q = (
                    torch.stack([each[part][1][key] for each in terms]) for part in ("log p", "log q")
                )
                path = low * log_p + (1 - low) * log_q  # of log pi~
                mean = torch.tensordot(u, path, 1)
                covariance = torch.tensordot(u * (f - u @ f), path - mean, 1) * k / (k - 1)
                total[key] += (high - low) * (torch.tensordot(u, log_p - log_q, 1) + covariance)
    return total
