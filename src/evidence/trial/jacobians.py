"""The derivative of z by the noise that makes it, by automatic differentiation, or else by differences."""

from collections.abc import Callable

import torch
from torch import Tensor

Map = Callable[[Tensor], Tensor]  # of noise [K, B, D]: z [K, B, D], each row of its own noise
STEP = 1e-2  # of the noise
MAX_CONDITION = 1e4  # of dz/deps: beyond it its determinant has too few digits


def jacobian(drawn: Map, noise: Tensor) -> Tensor:
    """float64 [K, B, D, D]: the derivatives of z_i (rows) by eps_j (columns).

    Differences are taken of a map out of whose graph a part of z was taken, and of one that cannot be differentiated.
    """
    try:
        with torch.enable_grad():
            leaf = noise.detach().requires_grad_()
            z = drawn(leaf)
            if z.requires_grad:
                units = z.sum((0, 1)).unbind()
                rows = [
                    torch.autograd.grad(unit, leaf, retain_graph=True, materialize_grads=True)[0]
                    for unit in units
                ]
                return torch.stack(rows, -2).double()
    except RuntimeError:
        pass
    with torch.no_grad():
        steps = STEP * torch.eye(noise.shape[-1]).to(noise)
        columns = [(drawn(noise + step) - drawn(noise - step)).double() / (2 * STEP) for step in steps]
    return torch.stack(columns, -1)


def is_derivative(found: Tensor, drawn: Map, noise: Tensor) -> Tensor:
    """Whether each has an inverse, and is what z changes by: [K, B]. That of a straight-through sample is not."""
    is_regular = found.isfinite().all(-1).all(-1)
    is_regular &= torch.linalg.cond(found.nan_to_num(0, 0, 0)) < MAX_CONDITION
    step = STEP * torch.randn_like(noise)
    expected = (found @ step.double().unsqueeze(-1)).squeeze(-1)
    change = (drawn(noise + step) - drawn(noise - step)).double() / 2
    return is_regular & ((change - expected).norm(dim=-1) < 0.05 * expected.norm(dim=-1))
