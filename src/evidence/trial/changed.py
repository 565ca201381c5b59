"""Checks a model at other parameters than those it starts with, as training would give them."""

import torch
from torch import Tensor

from evidence.errors import UserError
from evidence.models import LatentVariableModel
from evidence.modules import scoring
from evidence.trial.determinism import noise_of, values_at
from evidence.trial.interfaces import agree, check_consistency
from evidence.trial.unsaved import differing

SHIFT = 0.05  # of the parameters, of their size or of 1: a term may be zero at their initial values


def check_changed(model: LatentVariableModel, fresh: LatentVariableModel, x: Tensor) -> None:
    """Raise UserError where scores of x [B, X] would be wrong once the parameters have changed.

    Both are copies of a model as training starts, which this may change. The first one scores before that, too.
    """
    with torch.no_grad():
        noise = noise_of(model.posterior(x))
        _scores(model, x, noise)  # in which it may keep something
        shift(model)
        fresh.load_state_dict(model.state_dict())
        try:
            found, expected = _scores(model, x, noise), _scores(fresh, x, noise)
            check_consistency(model, x)
        except UserError:
            raise
        except Exception:  # of parameters that training would not reach
            return
        if not all(map(agree, found, expected)):
            what = ", ".join(differing({"model": model}, {"model": fresh})) or "the model"
            raise UserError(
                f"{what} keeps what earlier parameters gave, so that a later score is wrong: compute it in each forward"
                " pass"
            )


def shift(model: LatentVariableModel) -> None:
    """Change what is trained, as training would."""
    for parameter in model.parameters():
        if parameter.requires_grad and parameter.is_floating_point():
            parameter.add_(SHIFT * parameter.abs().clamp(min=1) * torch.randn_like(parameter))


def _scores(model: LatentVariableModel, x: Tensor, noise: list[Tensor]) -> list[Tensor]:
    with scoring(model):
        return values_at(model, model.posterior(x), x, noise)
