"""Checks the weights of a user's estimator."""

import torch

from evidence.errors import UserError
from evidence.modules import is_users
from evidence.objectives import Objective, Weighted
from evidence.trial.interfaces import named

IMAGES = 5
TOLERANCE = 1e-4  # buffers may be of float32


def check_weights(objective: Objective) -> None:
    """Raise UserError where few samples would ascend another bound than all of them.

    The weights of an estimator of the kind "bound" are the derivative of its first bound by log w.
    """
    if not isinstance(objective, Weighted) or objective.derivative != "bound" or not is_users(objective):
        return
    log_w = torch.randn(objective.k, IMAGES, dtype=torch.float64, requires_grad=True)
    with torch.enable_grad():
        name, bound = next(iter(objective.bounds(log_w).items()))
        (expected,) = torch.autograd.grad(bound.sum(), log_w)
    for weights in objective.weights(log_w.detach()):
        if not torch.allclose(weights.double(), expected, TOLERANCE, TOLERANCE):
            raise UserError(
                f"{named(objective)}: weights are not the derivative of the bound '{name}' by log w, which"
                " objective.num_exact=null ascends; they must be equal, or derivative must be 'total'"
            )
