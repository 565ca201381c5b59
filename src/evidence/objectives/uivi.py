"""Unbiased implicit variational inference (Titsias and Ruiz 2019)."""

from collections.abc import Callable

from torch import Tensor

from evidence.distributions import SemiImplicit, semi_implicit
from evidence.models import LatentVariableModel
from evidence.numerics import effective_sample_size
from evidence.objectives.base import Estimate, Objective
from evidence.objectives.reverse_conditional import HMCSampler, ReverseSamples


class UIVI(Objective):
    """The gradient of a semi-implicit posterior's ELBO, without a bound (Titsias and Ruiz 2019, Eq. 10).

    z = mean(x, eps) + sigma u, and grad ELBO = E[(grad_z log p(x, z) - E_{q(eps' | z, x)} grad_z log q(z | eps', x))
    dz/dtheta]. As a surrogate: log p(x, z) - sum_s v_s log q(z | eps'_s, x) with q's parameters out of the graph of the
    second term. v_s is 1/S for draws from q(eps' | z, x), and then this is exact. For draws from tau it is proportional
    to q(eps'_s) q(z | eps'_s, x) / tau(eps'_s), and sums to one.
    """

    passes_twice = True

    def __init__(
        self, k: int, reverse_conditional: Callable[[SemiImplicit, Tensor, Tensor, Tensor], ReverseSamples]
    ) -> None:
        super().__init__()
        self.k = k
        self.reverse_conditional = reverse_conditional

    @property
    def compiled_part(self) -> HMCSampler | None:
        """The chain, by the iteration: as one graph it would compile for minutes."""
        sampler = self.reverse_conditional
        return sampler if isinstance(sampler, HMCSampler) else None

    def forward(self, model: LatentVariableModel, x: Tensor) -> Estimate:
        """Surrogate: log p(x, z) - sum_s v_s log q(z | eps'_s, x), a mean over k z. Its ELBO is intractable."""
        q = semi_implicit(model.posterior(x))
        eps = q.noise(self.k)
        z = q.rsample(eps)

        def reverse() -> tuple[Tensor, ReverseSamples]:
            q = semi_implicit(model.posterior(x))
            samples = self.reverse_conditional(q, z, eps, x)
            return q.conditional(samples.eps).log_prob(z), samples

        log_q, samples = model.detached(reverse, "posterior")
        metrics = dict(samples.metrics)
        if samples.log_ratio is None:
            log_q = log_q.mean(0)
        else:
            log_v = samples.log_ratio + log_q.detach()
            log_q = (log_v.softmax(0) * log_q).sum(0)
            metrics["reverse/effective_sample_size"] = effective_sample_size(log_v).mean()
        log_joint = model.log_joint(x, z)
        surrogate = (log_joint - log_q).mean(0)
        if samples.ascended is not None:
            surrogate = surrogate + samples.ascended.mean(0)
        metrics = {
            "log_joint": log_joint.detach().mean(),
            "scale": q.scale.detach().mean(),
            **metrics,
        }
        return Estimate(surrogate, metrics)
