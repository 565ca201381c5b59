"""What each paper ascends: a surrogate whose gradient is the paper's update, and the quantities worth reporting."""

from evidence.objectives.base import Estimate, Objective
from evidence.objectives.critic import CriticWeighted
from evidence.objectives.dreg import STL, DReG, RWSDReG
from evidence.objectives.elbo import ELBO
from evidence.objectives.grouped import CIWAE, MIWAE, PIWAE
from evidence.objectives.iwae import IWAE
from evidence.objectives.reverse_conditional import (
    HMCSampler,
    ImportanceSampler,
    LearnedSampler,
    ReverseSamples,
)
from evidence.objectives.rws import RWS
from evidence.objectives.sivi import SIVI
from evidence.objectives.tvo import TVO
from evidence.objectives.uivi import UIVI
from evidence.objectives.vr_iwae import VRIWAE
from evidence.objectives.weighting import Weighted, Weights, choose_few

__all__ = [
    "CIWAE",
    "ELBO",
    "IWAE",
    "MIWAE",
    "PIWAE",
    "RWS",
    "SIVI",
    "STL",
    "TVO",
    "UIVI",
    "VRIWAE",
    "CriticWeighted",
    "DReG",
    "Estimate",
    "HMCSampler",
    "ImportanceSampler",
    "LearnedSampler",
    "Objective",
    "RWSDReG",
    "ReverseSamples",
    "Weighted",
    "Weights",
    "choose_few",
]
