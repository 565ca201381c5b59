"""What each paper ascends: a surrogate whose gradient is the paper's update, and the quantities worth reporting.

An objective sees a model and a batch x [B, X] and returns an `Estimate`. Only the surrogate's gradient means
something; only the metrics' values do. A metric is called `elbo` only where it is a lower bound on log p(x) in
expectation that is the ELBO itself. All are in nats per image.
"""

import abc
from collections.abc import Callable
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from evidence.distributions import SemiImplicit, kl_divergence, semi_implicit, with_density
from evidence.models import LatentVariableModel
from evidence.numerics import effective_sample_size, frozen, log_mean_exp
from evidence.reverse_conditional import ReverseSamples


class Estimate(NamedTuple):
    """surrogate [B]: ascend its gradient; metrics: detached scalars, the one to watch first."""

    surrogate: Tensor
    metrics: dict[str, Tensor]


class Objective(nn.Module, abc.ABC):
    """A training signal. A module, because some carry parameters (a critic) or adapted state (a step size).

    `is_compilable` where torch.compile takes all of it as one graph, which it cannot with `frozen` inside. Where
    `passes_twice`, the model computes again what it has computed, so it must be a function of the noise it is given;
    `single_pass` is the setting that is without this, if there is one.
    """

    is_compilable: ClassVar[bool] = False
    single_pass: ClassVar[str] = ""

    @property
    def passes_twice(self) -> bool:
        """Whether a step needs the same value of the model from two forward passes."""
        return False

    @abc.abstractmethod
    def forward(self, model: LatentVariableModel, x: Tensor) -> Estimate:
        """The estimate on one batch x [B, X] of binary pixels."""


class ELBO(Objective):
    """E_q[log w], the mean of log w over k samples (Kingma and Welling 2014, Eq. 3; k samples: Burda et al., Eq. 7).

    kl="sampled" takes log q(z | x) - log p(z) at the samples, as the IWAE paper does; kl="analytic" is exact, and
    raises UserError where posterior and prior are not two DiagonalNormal.
    """

    is_compilable = True

    def __init__(self, k: int, kl: Literal["sampled", "analytic"] = "sampled") -> None:
        super().__init__()
        self.k, self.kl = k, kl

    def forward(self, model: LatentVariableModel, x: Tensor) -> Estimate:
        """Surrogate: the ELBO's estimate itself."""
        if self.kl == "sampled":
            elbo = model.log_weights(x, self.k).mean(0)
        else:
            q = model.posterior(x)
            kl = kl_divergence(q, model.prior())
            elbo = model.log_likelihood_at(q.noise(self.k), q, x).mean(0) - kl
        return Estimate(elbo, {"elbo": elbo.detach().mean()})


class IWAE(Objective):
    """L_k = E log (1/k) sum_i w_i (Burda et al. 2015, Eq. 8), a lower bound on log p(x) that rises with k.

    Its gradient is sum_i w~_i grad log w_i with w~ the normalised weights (Eq. 14). `backward` says which terms:
      all      every one;
      sampled  one i, drawn with probability w~_i (Section 3);
      top      the m with the largest w~_i exactly, and one of the rest, drawn with probability proportional to
               w~_i, that carries the weight of all the rest.
    The last two first take k samples without a graph, and average to the first given these samples.
    """

    is_compilable = True
    single_pass = "objective.backward=all"

    def __init__(self, k: int, backward: Literal["all", "sampled", "top"], m: int) -> None:
        super().__init__()
        self.k, self.backward = k, backward
        self.num_exact = {"all": k, "sampled": 0, "top": m}[backward]

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
    race = rest / torch.empty_like(rest).exponential_()  # won by i with probability rest_i / sum_j rest_j
    return torch.cat([index, race.argmax(0, keepdim=True)]), torch.cat([exact, rest.sum(0, keepdim=True)])


class CriticWeighted(Objective):
    """Updates weighted by w exp(-C(x)), with a critic C (post "Importance-weighted update with critic", 2017).

    The decoder ascends v grad log p(x, z) with v = exp(min(log w - C(x), bound)), detached. The encoder:
      literal  v grad log w, whose expectation without bound is zero: E_q[w grad log w] = grad_encoder p(x) = 0;
      elbo     grad log w, weight one: the VAE's;
      path     v grad_z log w dz/dencoder, in expectation the wake-phase update p(x) e^-C E_p(z|x) grad log q(z | x).
    The critic C(x) = b + s net(x), b and s running mean and deviation of log w, fits
      elbo      E log w, by least squares;
      evidence  log E w = log p(x), the minimum of E[w exp(-C) + C], continued linearly above the bound.
    For the first `warmup` steps every weight is one while the critic learns.
    """

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
        """path computes q(z | x) again with its network frozen, elbo the joint with prior and likelihood frozen."""
        return self.encoder != "literal"

    def forward(self, model: LatentVariableModel, x: Tensor) -> Estimate:
        """Surrogate: the weighted log w less the critic's loss; neither gradient reaches the other's parameters."""
        weighted, unweighted = self._terms(model, x)
        log_w = weighted.detach() if unweighted is None else unweighted.detach()
        self._start(log_w)
        baseline = self.shift + self.scale * self.critic(x)
        excess = log_w - baseline
        weight = excess.detach().clamp(max=self.bound).exp()
        loss = self._critic_loss(excess, weight, baseline)
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
            with frozen(model.posterior):
                log_q = with_density(model.posterior(x), "log_prob").log_prob(z)
            return model.log_joint(x, z) - log_q, None
        with frozen(model.prior), frozen(model.likelihood):
            encoder = model.log_joint(x, z) - log_q
        return model.log_joint(x, z.detach()), encoder

    def _critic_loss(self, excess: Tensor, weight: Tensor, baseline: Tensor) -> Tensor:
        """[B]; its derivative with respect to C is -(excess / s^2), or 1 - exp(min(excess, bound))."""
        if self.target == "elbo":
            return 0.5 * (excess / self.scale).square().mean(0)
        above = (excess - self.bound).clamp(min=0.0)
        return (excess.clamp(max=self.bound).exp() + weight * above).mean(0) + baseline

    def _start(self, log_w: Tensor) -> None:
        """log w begins near -540 nats, far from any network's reach: b and s start at the first batch's."""
        first = self.num_steps == 0
        self.shift = torch.where(first, log_w.mean(), self.shift)
        self.scale = torch.where(first, self._deviation(log_w), self.scale)

    def _track(self, log_w: Tensor) -> None:
        """After the step, so that C(x) never depends on the sample it weighs."""
        self.shift = torch.lerp(log_w.mean(), self.shift, self.MOMENTUM)
        self.scale = torch.lerp(self._deviation(log_w), self.scale, self.MOMENTUM)
        self.num_steps = self.num_steps + 1

    @staticmethod
    def _deviation(log_w: Tensor) -> Tensor:
        return log_w.std(correction=0).clamp(min=1.0)


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
        with frozen(model.posterior):
            q = model.posterior(x)
            reverse = self.reverse_conditional(q, z, eps)
            log_q = q.conditional(reverse.eps).log_prob(z).mean(0)
        log_joint = model.log_joint(x, z)
        metrics = {
            "log_joint": log_joint.detach().mean(),
            "scale": q.scale.detach().mean(),
            **reverse.metrics,
        }
        return Estimate((log_joint - log_q).mean(0), metrics)


class SIVI(Objective):
    """E[log p(x, z) - log 1/(K+1) sum_{j=0}^K q(z | eps_j, x)], eps_0 the one that made z (Yin and Zhou 2018, Eq. 9).

    A lower bound on the ELBO of a semi-implicit posterior, rising to it with K = num_noises.
    """

    is_compilable = True
    passes_twice = True

    def __init__(self, k: int, num_noises: int) -> None:
        super().__init__()
        self.k, self.num_noises = k, num_noises

    def forward(self, model: LatentVariableModel, x: Tensor) -> Estimate:
        """Surrogate: the bound's estimate, the mean over k samples z."""
        q = semi_implicit(model.posterior(x))
        eps = q.noise(self.k)
        z = q.rsample(eps)
        generating = q.conditional(eps).log_prob(z).unsqueeze(0)  # [1, k, B]
        fresh = q.conditional(q.noise(self.num_noises).unsqueeze(1)).log_prob(z)  # [K, k, B]
        log_q = log_mean_exp(torch.cat([generating, fresh]))
        bound = (model.log_joint(x, z) - log_q).mean(0)
        metrics = {"sivi_bound": bound.detach().mean(), "scale": q.scale.detach().mean()}
        return Estimate(bound, metrics)
