"""Gradients that weigh samples: an estimator is two weightings of k samples and one kind of derivative.

The decoder, with the prior, ascends sum_i a_i grad log p(x, z_i). The encoder ascends sum_i b_i times the derivative
of log w_i = log p(x, z_i) - log q(z_i | x) of one of these kinds:
  bound  the total one, through z_i and log q, where a_i = b_i is the derivative of a bound by log w_i;
  total  the total one, where b_i is another weight than a_i;
  path   d log w_i / dz_i dz_i / d encoder, without the score, the term through log q's own parameters;
  score  -grad log q(z_i | x) at a fixed z_i.
Weights are functions of the log-weights alone, and out of any graph. One decoder pass serves both weightings.
"""

import abc
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from evidence.distributions import with_density
from evidence.models import LatentVariableModel, in_pieces
from evidence.numerics import effective_sample_size, log_mean_exp
from evidence.objectives.base import Estimate, Objective
from evidence.streams import uniform

Derivative = Literal["bound", "total", "path", "score"]
TINY = 1e-30  # a decoder's weight is at least this, so that the encoder's is a multiple of it


class Weights(NamedTuple):
    """a and b, [k, B]: what the decoder's and the encoder's derivatives of each sample are multiplied by."""

    decoder: Tensor
    encoder: Tensor


class Weighted(Objective):
    """An objective whose gradient weighs k samples. `num_exact` says which of them the backward pass takes:

      None  all k of them;
      0     one i, drawn with probability proportional to its magnitude m_i = max(|a_i|, |b_i|);
      m     the m with the largest m_i, and one of the rest, drawn in proportion to m_i, which stands for all the rest.
    The last two draw k samples without a graph first. Given these samples, their expectation is the first.
    """

    is_compilable = True
    derivative: ClassVar[Derivative] = "bound"

    def __init__(self, k: int, num_exact: int | None = None) -> None:
        super().__init__()
        self.k = k
        self.num_exact = k if num_exact is None else num_exact

    @abc.abstractmethod
    def weights(self, log_w: Tensor) -> Weights:
        """a and b of the log-weights [k, B]."""

    @abc.abstractmethod
    def bounds(self, log_w: Tensor) -> dict[str, Tensor]:
        """What is ascended, and other bounds to watch, by their names: [B] each, of log-weights [k, B]."""

    @property
    def takes_few(self) -> bool:
        """Whether samples are left out of the backward pass."""
        return self.num_exact + 1 < self.k

    @property
    def passes_twice(self) -> bool:
        """Where samples are left out, and where q(z | x) is computed again with its parameters out of the graph."""
        return self.takes_few or self.derivative == "path"

    @property
    def single_pass(self) -> str:  # type: ignore[override]
        """With all samples, where none is computed again for another reason."""
        return "" if self.derivative == "path" else "objective.num_exact=null"

    def forward(self, model: LatentVariableModel, x: Tensor) -> Estimate:
        """Surrogate: the bound where it is differentiated as it is, else a weighted sum; its gradient is meant."""
        q = with_density(model.posterior(x), *(["log_prob"] if self.derivative in ("path", "score") else []))
        noise = q.noise(self.k)
        if self.takes_few:
            with torch.no_grad():
                log_w = model.log_weights_at(noise, q, x)
                index, weights = sketch(self.weights(log_w), self.num_exact)
            chosen = noise.gather(0, index.unsqueeze(-1).expand(-1, -1, noise.shape[-1]))
            surrogate = self._surrogate(model, x, q, chosen, weights)[0]
        else:
            surrogate, log_w = self._surrogate(model, x, q, noise, None)
        log_w = log_w.detach()
        metrics = {name: value.mean() for name, value in self.bounds(log_w).items()}
        metrics |= {"elbo": log_w.mean(), "effective_sample_size": effective_sample_size(log_w).mean()}
        return Estimate(surrogate, metrics)

    def _surrogate(
        self, model: LatentVariableModel, x: Tensor, q: Any, noise: Tensor, weights: Weights | None
    ) -> tuple[Tensor, Tensor]:
        """[B], and the log-weights [K, B] of the samples that the noise makes; `weights` are theirs by default."""
        if self.derivative == "bound":
            log_w = model.log_weights_at(noise, q, x)
            if weights is None:
                return next(iter(self.bounds(log_w).values())), log_w
            return (weights.decoder * log_w).sum(0), log_w
        log_p, log_q, tag = in_pieces(lambda noise: self._terms(model, x, q, noise), noise).unbind(-1)
        log_w = log_p - log_q
        a, b = self.weights(log_w.detach()) if weights is None else weights
        if self.derivative == "score":
            return (a * log_p - b * log_q).sum(0), log_w
        a = a.clamp(min=TINY)
        total = (a * log_w).sum(0) if self.derivative == "path" else (a * log_p - b * log_q).sum(0)
        return _join(total, tag, b / a), log_w

    def _terms(self, model: LatentVariableModel, x: Tensor, q: Any, noise: Tensor) -> Tensor:
        """log p(x, z), log q(z | x) and the samples' tags: [K, B, 3]."""
        z, log_q = q.rsample_and_log_prob(noise)
        if self.derivative == "score":
            z = z.detach()
            return torch.stack([model.log_joint(x, z), q.log_prob(z), torch.zeros_like(log_q)], -1)
        z, tag = _tag(z)
        if self.derivative == "path":
            log_q = model.log_posterior_at(z, x)
        return torch.stack([model.log_joint(x, z), log_q, tag], -1)


# Operators, and no autograd.Function: torch.compile forgets the gradient of one inside torch.vmap.
@torch.library.custom_op("evidence::tag", mutates_args=())
def _tag(z: Tensor) -> tuple[Tensor, Tensor]:
    """z and a tag of zeros for each sample. The gradient of z is multiplied by the tag's, which `_join` gives."""
    return z.clone(), z.new_zeros(z.shape[:-1])


@torch.library.custom_op("evidence::join", mutates_args=())
def _join(value: Tensor, tag: Tensor, factor: Tensor) -> Tensor:
    """The value as it is. Its gradient goes on, and the factors [K, B] go to the tags."""
    return value.clone()


def _keep_factor(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(inputs[2])


def _stacked(info: Any, in_dims: tuple[int | None, ...], *given: Tensor) -> list[Tensor]:
    """The tensors with the stack's dimension first."""
    return [
        each.expand(info.batch_size, *each.shape) if dim is None else each.movedim(dim, 0)
        for each, dim in zip(given, in_dims, strict=True)
    ]


_tag.register_fake(lambda z: (torch.empty_like(z), z.new_empty(z.shape[:-1])))
_tag.register_autograd(lambda ctx, grad, factor: grad * factor.unsqueeze(-1))
_tag.register_vmap(lambda info, in_dims, z: (_tag(*_stacked(info, in_dims, z)), (0, 0)))
_join.register_fake(lambda value, tag, factor: torch.empty_like(value))
_join.register_autograd(lambda ctx, grad: (grad, ctx.saved_tensors[0], None), setup_context=_keep_factor)
_join.register_vmap(lambda info, in_dims, *given: (_join(*_stacked(info, in_dims, *given)), 0))


def sketch(weights: Weights, num_exact: int) -> tuple[Tensor, Weights]:
    """Indices of few samples, and weights for them that stand for all k: [num_exact + 1, B] each.

    E sum_j w'_j f(index_j) = sum_i w_i f(i) for both weightings w.
    """
    magnitude = torch.maximum(weights.decoder.abs(), weights.encoder.abs())
    index, coefficient = choose_few(magnitude, num_exact)
    shares = (each / magnitude.clamp(min=TINY) for each in weights)
    return index, Weights(*(share.gather(0, index) * coefficient for share in shares))


def choose_few(weights: Tensor, num_exact: int) -> tuple[Tensor, Tensor]:
    """An unbiased sketch of weights [k, B], none below zero: indices and coefficients [num_exact + 1, B].

    E sum_j coefficient_j f(index_j) = sum_i weights_i f(i): the largest with their own weights, then one of the
    others, drawn in proportion to its weight, with the weight of all others.
    """
    exact, index = weights.topk(num_exact, 0)
    rest = weights.scatter(0, index, 0.0)
    race = rest / -uniform(rest.shape, rest).log()  # won by i with probability rest_i / sum_j rest_j
    return torch.cat([index, race.argmax(0, keepdim=True)]), torch.cat([exact, rest.sum(0, keepdim=True)])


def importance_weighted(log_w: Tensor) -> dict[str, Tensor]:
    """L_k = log (1/k) sum_i w_i, as the metric `iwae`: [k, B] -> [B]."""
    return {"iwae": log_mean_exp(log_w)}
