"""The importance-weighted bound (Burda et al. 2015), its gradient by all samples or by a few of them."""

import torch
from torch import Tensor

from evidence.distributions import with_density
from evidence.models import LatentVariableModel
from evidence.numerics import effective_sample_size, log_mean_exp
from evidence.objectives.base import Estimate, Objective
from evidence.streams import uniform


class IWAE(Objective):
    """L_k = E log (1/k) sum_i w_i (Burda et al. 2015, Eq. 8), a lower bound on log p(x) that rises with k.

    Its gradient is sum_i w~_i grad log w_i with w~ the normalised weights (Eq. 14). `num_exact` says which terms
    the backward pass takes:
      None  all k of them;
      0     one i, drawn with probability w~_i (Section 3);
      m     the m with the largest w~_i, and one of the rest, drawn with probability proportional to w~_i, which
            carries the weight of all the rest.
    The last two draw k samples without a graph first. Given these samples, their expectation is the first.
    """

    is_compilable = True
    single_pass = "objective.num_exact=null"

    def __init__(self, k: int, num_exact: int | None = None) -> None:
        super().__init__()
        self.k = k
        self.num_exact = k if num_exact is None else num_exact

    @property
    def passes_twice(self) -> bool:
        """Where samples are left out of the backward pass: it is through the others' second forward pass."""
        return self.num_exact + 1 < self.k

    def forward(self, model: LatentVariableModel, x: Tensor) -> Estimate:
        """Surrogate: the bound's estimate, or the weighted sum of the chosen samples' log w."""
        if self.passes_twice:
            log_w, surrogate = self._few(model, x)
        else:
            log_w = model.log_weights(x, self.k)
            surrogate = log_mean_exp(log_w)
        log_w = log_w.detach()
        metrics = {
            "iwae": log_mean_exp(log_w).mean(),
            "elbo": log_w.mean(),
            "effective_sample_size": effective_sample_size(log_w).mean(),
        }
        return Estimate(surrogate, metrics)

    def _few(self, model: LatentVariableModel, x: Tensor) -> tuple[Tensor, Tensor]:
        q = with_density(model.posterior(x))
        noise = q.noise(self.k)
        with torch.no_grad():
            log_w = model.log_weights_at(noise, q, x)
            index, weight = choose_few(log_w.softmax(0), self.num_exact)
        chosen = noise.gather(0, index.unsqueeze(-1).expand(-1, -1, noise.shape[-1]))
        return log_w, (weight * model.log_weights_at(chosen, q, x)).sum(0)


def choose_few(weights: Tensor, num_exact: int) -> tuple[Tensor, Tensor]:
    """An unbiased sketch of weights [k, B] that sum to one: indices and coefficients [num_exact + 1, B].

    E sum_j coefficient_j f(index_j) = sum_i weights_i f(i): the largest with their own weights, then one of the
    others, drawn in proportion to its weight, with the weight of all others.
    """
    exact, index = weights.topk(num_exact, 0)
    rest = weights.scatter(0, index, 0.0)
    race = rest / -uniform(rest.shape, rest).log()  # won by i with probability rest_i / sum_j rest_j
    return torch.cat([index, race.argmax(0, keepdim=True)]), torch.cat([exact, rest.sum(0, keepdim=True)])
