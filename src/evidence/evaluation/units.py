"""How many latent units a model uses: those whose posterior mean varies with x (Burda et al. 2015, Sec. 5.1)."""

from torch import Tensor

from evidence.evaluation.scoring import MEANS_A, MEANS_B, in_eval
from evidence.models import LatentVariableModel
from evidence.streams import samples

ACTIVE_THRESHOLD = 1e-2  # Burda et al. 2015, Section 5.1
MEAN_SAMPLES = 100  # for each estimate of E_q[z | x] where the mean is not exact


@in_eval
def posterior_means(model: LatentVariableModel, x: Tensor, num_samples: int) -> tuple[Tensor, Tensor]:
    """Two independent unbiased estimates of E_q[z | x], each [B, D], exact and equal where the mean is known."""
    q = model.posterior(x)
    samples(0, MEANS_A)
    first = q.expectation(num_samples)
    samples(0, MEANS_B)
    return first, q.expectation(num_samples)


def activity(means_a: Tensor, means_b: Tensor) -> Tensor:
    """A_u = Cov_x(E_q[z_u | x]) from two independent estimates [N, D] of the mean: [D] (Burda et al. 2015, Sec. 5.1).

    Their noises are independent, so the covariance is unbiased however few samples each used, and may be negative;
    the variance of a single noisy estimate would add its noise and make a dead unit look alive.
    """
    a, b = means_a.double(), means_b.double()
    return ((a - a.mean(0)) * (b - b.mean(0))).sum(0) / (a.shape[0] - 1)


def active_units(means_a: Tensor, means_b: Tensor, threshold: float = ACTIVE_THRESHOLD) -> Tensor:
    """Which latent units vary with x: bool [D]."""
    return activity(means_a, means_b) > threshold
