"""What drawing few of an image's samples adds to the variance of IWAE's gradient, without drawing.

An image's gradient is g = sum_i w_i h_i with h_i = grad log w_i and k weights that sum to one. `num_exact` = m keeps
the m heaviest terms; of the rest S it draws one, i with probability w_i / R, R = sum_{i in S} w_i, and gives it the
weight R (m = 0 draws one of all). Images are drawn for independently, so the total variances of their gradients add up:

  full    E |g - g'|^2 / 2                                            g and g' from two sets of k samples
  added   E [R sum_{i in S} w_i |h_i|^2 - |sum_{i in S} w_i h_i|^2]    exact once the k samples are given

Both are quadratic forms in the products <h_i, h_j> of an image's samples, which need no gradient of their own. In a
linear layer with input a and output y, delta = d log w / dy, the weights' gradient is delta a^T and the bias's is
delta, so that the layer's part of <h_i, h_j> is <delta_i, delta_j> (<a_i, a_j> + 1).
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from evidence.models import LatentVariableModel

PARTS = ["all", "encoder", "decoder"]


class Products(NamedTuple):
    """log w [N, B] of N samples of each image, and <h_i, h_j> [B, N, N] over the parameters of each of PARTS."""

    log_w: Tensor
    gradients: dict[str, Tensor]


def products(model: LatentVariableModel, x: Tensor, noise: Tensor) -> Products:
    """The products of the per-sample gradients for images x [B, X] and posterior noise [N, B, D].

    All parameters must be those of linear layers. The encoder works through each image N times, so that every
    sample has a row of its own.
    """
    layers: list[tuple[bool, Tensor, Tensor]] = []

    def keep(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        layers.append((module in encoder, inputs[0].detach(), output))

    encoder = set(model.posterior.modules())
    hooks = [each.register_forward_hook(keep) for each in model.modules() if isinstance(each, nn.Linear)]
    z, log_q = model.posterior(x.expand(len(noise), *x.shape)).rsample_and_log_prob(noise)
    log_w = model.log_joint(x, z) - log_q
    for hook in hooks:
        hook.remove()
    deltas = torch.autograd.grad(log_w.sum(), [output for _, _, output in layers])
    gradients = dict.fromkeys(PARTS, torch.zeros(()))
    for (is_encoder, inputs, _), delta in zip(layers, deltas, strict=True):
        product = _inner(delta) * (_inner(inputs) + 1)
        for part in "all", "encoder" if is_encoder else "decoder":
            gradients[part] = gradients[part] + product
    return Products(log_w.detach(), gradients)


def full_variance(weights: Tensor, others: Tensor, gradients: Tensor) -> Tensor:
    """|g - g'|^2 / 2 [B], unbiased for the variance of g: two sets of weights [k, B], gradients [B, 2k, 2k]."""
    return _square(torch.cat([weights, -others]), gradients) / 2


def added_variance(weights: Tensor, gradients: Tensor, num_exact: int) -> Tensor:
    """What drawing one of all but the `num_exact` heaviest adds, [B]: weights [k, B], gradients [B, k, k]."""
    rest = weights.scatter(0, weights.topk(num_exact, 0).indices, 0.0)
    one = rest.sum(0) * (rest * gradients.diagonal(dim1=1, dim2=2).T).sum(0)
    return one - _square(rest, gradients)


def _inner(rows: Tensor) -> Tensor:
    """<row_i, row_j>: [N, B, D] -> [B, N, N]."""
    by_image = rows.transpose(0, 1)
    return by_image @ by_image.transpose(1, 2)


def _square(coefficients: Tensor, gradients: Tensor) -> Tensor:
    """|sum_i c_i h_i|^2 [B]: c [N, B]."""
    return torch.einsum("ib,bij,jb->b", coefficients, gradients, coefficients)
