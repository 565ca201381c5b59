"""Updates weighted by w exp(-C(x)), with a learned critic C."""

from typing import Literal

import torch
from torch import Tensor, nn

from evidence.distributions import with_density
from evidence.models import LatentVariableModel
from evidence.objectives.base import Estimate, Objective


class CriticWeighted(Objective):
    """Updates weighted by w exp(-C(x)), with a critic C (post "Importance-weighted update with critic", 2017).

    The decoder ascends v grad log p(x, z) with v = exp(min(log w - C(x), bound)), detached. The encoder:
      literal  v grad log w, whose expectation without bound is zero: E_q[w grad log w] = grad_encoder p(x) = 0;
      elbo     grad log w, weight one: the VAE's;
      path     v grad_z log w dz/dencoder, in expectation the wake-phase update p(x) e^-C E_p(z|x) grad log q(z | x).
    The critic C(x) = b + s net(x), b and s running mean and deviation of log w, fits
      elbo      E log w, by least squares;
      evidence  the minimum of E[w exp(-C) + C], continued linearly above the bound: log E w = log p(x) without a bound,
                else the lower C with E min(w exp(-C), exp(bound)) = 1.
    For the first `warmup` steps every weight is one while the critic learns.
    """

    is_compilable = True
    single_pass = "objective.encoder=literal"
    MOMENTUM = 0.99  # of b and s
    shift: Tensor
    scale: Tensor
    num_steps: Tensor

    def __init__(
        self,
        k: int,
        encoder: Literal["literal", "elbo", "path"],
        target: Literal["evidence", "elbo"],
        bound: float | None,
        warmup: int,
        critic: nn.Module,
    ) -> None:
        super().__init__()
        self.k, self.encoder, self.target, self.warmup = k, encoder, target, warmup
        self.bound = float("inf") if bound is None else bound
        self.critic = critic
        self.register_buffer("shift", torch.tensor(0.0))
        self.register_buffer("scale", torch.tensor(1.0))
        self.register_buffer("num_steps", torch.tensor(0))

    @property
    def passes_twice(self) -> bool:
        """path computes q(z | x) again with its network detached, elbo the joint with prior and likelihood detached."""
        return self.encoder != "literal"

    def forward(self, model: LatentVariableModel, x: Tensor) -> Estimate:
        """Surrogate: the weighted log w less the critic's loss; neither gradient reaches the other's parameters."""
        weighted, unweighted = self._terms(model, x)
        log_w = weighted.detach() if unweighted is None else unweighted.detach()
        self._start(log_w)
        scale = self.scale.clone()  # the graph keeps it, and the buffer is about to change
        baseline = self.shift + scale * self.critic(x)
        excess = log_w - baseline
        weight = excess.detach().clamp(max=self.bound).exp()
        loss = self._critic_loss(excess, weight, baseline, scale)
        weight = torch.where(self.num_steps < self.warmup, torch.ones_like(weight), weight)
        surrogate = (weight * weighted).mean(0) - loss
        if unweighted is not None:
            surrogate = surrogate + unweighted.mean(0)
        metrics = {
            "elbo": log_w.mean(),
            "critic/loss": loss.detach().mean(),
            "critic/weight": weight.mean(),
            "critic/excess": excess.detach().mean(),
            "critic/clipped_fraction": (excess.detach() > self.bound).to(x.dtype).mean(),
        }
        self._track(log_w)
        return Estimate(surrogate, metrics)

    def _terms(self, model: LatentVariableModel, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """What the weight multiplies and what it leaves alone, [K, B]; the last one given has the value log w."""
        q = with_density(model.posterior(x))
        z, log_q = q.rsample_and_log_prob(q.noise(self.k))
        if self.encoder == "literal":
            return model.log_joint(x, z) - log_q, None
        if self.encoder == "path":
            return model.log_joint(x, z) - model.log_posterior_at(z, x), None
        encoder = model.detached(lambda: model.log_joint(x, z), "prior", "likelihood") - log_q
        return model.log_joint(x, z.detach()), encoder

    def _critic_loss(self, excess: Tensor, weight: Tensor, baseline: Tensor, scale: Tensor) -> Tensor:
        """[B]; its derivative with respect to C is -(excess / s^2), or 1 - exp(min(excess, bound))."""
        if self.target == "elbo":
            return 0.5 * (excess / scale).square().mean(0)
        above = (excess - self.bound).clamp(min=0.0)
        return (excess.clamp(max=self.bound).exp() + weight * above).mean(0) + baseline

    def _start(self, log_w: Tensor) -> None:
        """log w begins near -540 nats, far from any network's reach: b and s start at the first batch's."""
        first = self.num_steps == 0
        self.shift.copy_(torch.where(first, log_w.mean(), self.shift))
        self.scale.copy_(torch.where(first, self._deviation(log_w), self.scale))

    def _track(self, log_w: Tensor) -> None:
        """After the step, so that C(x) never depends on the sample it weighs."""
        self.shift.copy_(torch.lerp(log_w.mean(), self.shift, self.MOMENTUM))
        self.scale.copy_(torch.lerp(self._deviation(log_w), self.scale, self.MOMENTUM))
        self.num_steps.add_(1)

    @staticmethod
    def _deviation(log_w: Tensor) -> Tensor:
        return log_w.std(correction=0).clamp(min=1.0)
