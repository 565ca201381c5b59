"""What each paper ascends: a surrogate whose gradient is the paper's update, and the quantities worth reporting."""

from evidence.objectives.base import Estimate, Objective
from evidence.objectives.critic import CriticWeighted
from evidence.objectives.elbo import ELBO
from evidence.objectives.iwae import IWAE, choose_few
from evidence.objectives.reverse_conditional import HMCSampler, ReverseSamples
from evidence.objectives.sivi import SIVI
from evidence.objectives.uivi import UIVI

__all__ = [
    "ELBO",
    "IWAE",
    "SIVI",
    "UIVI",
    "CriticWeighted",
    "Estimate",
    "HMCSampler",
    "Objective",
    "ReverseSamples",
    "choose_few",
]
