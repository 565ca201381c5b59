"""The methods that are compared: UIVI with each sampler of q(eps | z), and SIVI.

The chains are those of the authors' code, 5 + 5 iterations of 5 leapfrog steps. All other numbers are the defaults
in conf/objective.
"""

from collections.abc import Callable
from typing import NamedTuple

from evidence.networks import ReverseProposal
from evidence.objectives import SIVI, UIVI, Objective
from evidence.objectives.reverse_conditional import HMCSampler, ImportanceSampler, LearnedSampler
from experiments.uivi_toys.targets import DIM, NOISE_DIM

NUM_Z = 1  # an iteration
TARGET_ACCEPTANCE = 0.9
NUM_INNER = 100  # importance samples, of either kind, and SIVI's fresh noises
PROPOSAL_RATE, PROPOSAL_HIDDEN, PROPOSAL_ACTIVATION = 1.0, [200], "tanh"


class Method(NamedTuple):
    """A name to be read, and what makes the objective anew."""

    title: str
    objective: Callable[[], Objective]


def _learned() -> Objective:
    proposal = ReverseProposal(DIM, 0, NOISE_DIM, PROPOSAL_HIDDEN, PROPOSAL_ACTIVATION)
    return UIVI(NUM_Z, LearnedSampler(NUM_INNER, PROPOSAL_RATE, proposal))


METHODS = {
    "hmc": Method("UIVI, HMC", lambda: UIVI(NUM_Z, HMCSampler(5, 5, 5, 0.2, TARGET_ACCEPTANCE, 0.01))),
    "importance": Method("UIVI, importance", lambda: UIVI(NUM_Z, ImportanceSampler(NUM_INNER))),
    "learned": Method("UIVI, learned", _learned),
    "sivi": Method("SIVI", lambda: SIVI(NUM_Z, NUM_INNER)),
}
