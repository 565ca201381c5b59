"""Unbiased implicit variational inference (Titsias and Ruiz 2019)."""

from collections.abc import Callable

from torch import Tensor

from evidence.distributions import SemiImplicit, semi_implicit
from evidence.models import LatentVariableModel
from evidence.objectives.base import Estimate, Objective
from evidence.objectives.reverse_conditional import ReverseSamples


class UIVI(Objective):
    """The gradient of a semi-implicit posterior's ELBO, without a bound (Titsias and Ruiz 2019, Eq. 10).

    z = mean(x, eps) + sigma u, and grad ELBO = E[(grad_z log p(x, z) - E_{q(eps' | z, x)} grad_z log q(z | eps', x))
    dz/dtheta]. As a surrogate: log p(x, z) - mean_s log q(z | eps'_s, x) with q's parameters out of the graph of the
    second term. eps' do not depend on the graph, so this is exact if they are draws from q(eps' | z, x).
    """

    passes_twice = True

    def __init__(
        self, k: int, reverse_conditional: Callable[[SemiImplicit, Tensor, Tensor], ReverseSamples]
    ) -> None:
        super().__init__()
        self.k = k
        self.reverse_conditional = reverse_conditional

    def forward(self, model: LatentVariableModel, x: Tensor) -> Estimate:
        """Surrogate: log p(x, z) - mean_s log q(z | eps'_s, x), the mean over k samples z. Its ELBO is intractable."""
        q = semi_implicit(model.posterior(x))
        eps = q.noise(self.k)
        z = q.rsample(eps)

        def reverse() -> tuple[Tensor, dict[str, Tensor]]:
            q = semi_implicit(model.posterior(x))
            samples = self.reverse_conditional(q, z, eps)
            return q.conditional(samples.eps).log_prob(z).mean(0), samples.metrics

        log_q, sampling = model.detached(reverse, "posterior")
        log_joint = model.log_joint(x, z)
        metrics = {
            "log_joint": log_joint.detach().mean(),
            "scale": q.scale.detach().mean(),
            **sampling,
        }
        return Estimate((log_joint - log_q).mean(0), metrics)
