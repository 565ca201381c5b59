"""The estimators of the study, at k samples in all, and the slope of their encoder's signal-to-noise ratio in log k.

The mean of a sum over samples with normalised weights is of order one, or of order 1/k where the terms of order one
cancel: for the IWAE, since E_q[w grad log w] is the encoder's gradient of p(x), which is zero. DReG's has w~^2, of
order 1/k^2, k times. The deviation is of order 1/sqrt(k) relative to the terms that are summed: it has the order
k^(-1/2) for w~, and k^(-3/2) for w~^2. So the ratio is of order k^(-1/2) for the IWAE, and k^(1/2) for DReG and for
those whose mean stays. M groups of k/M samples have the ratio of k/M samples, times sqrt(M).
"""

import math
from collections.abc import Callable
from typing import NamedTuple

from evidence.objectives import CIWAE, ELBO, IWAE, PIWAE, RWS, STL, TVO, VRIWAE, DReG, Objective, RWSDReG

KS = (4, 16, 64, 256, 1024)


class Estimator(NamedTuple):
    """An objective of k samples, and the slope of its encoder's ratio as k grows, where q is not the posterior."""

    make: Callable[[int], Objective]
    slope: float


ESTIMATORS = {
    "VAE": Estimator(ELBO, 0.5),
    "IWAE": Estimator(IWAE, -0.5),
    "PIWAE, sqrt(k) groups": Estimator(lambda k: PIWAE(k, math.isqrt(k)), 0.0),
    "CIWAE, beta = 0.5": Estimator(lambda k: CIWAE(k, 0.5), 0.5),
    "STL": Estimator(STL, 0.5),
    "DReG": Estimator(DReG, 0.5),
    "VR-IWAE, alpha = 0.5": Estimator(lambda k: VRIWAE(k, 0.5, True), 0.5),
    "RWS, wake": Estimator(lambda k: RWS(k, "wake"), 0.5),
    "RWS-DReG": Estimator(RWSDReG, 0.5),
    "TVO, 5 points": Estimator(lambda k: TVO(k, 5, 0.1), 0.5),
}
