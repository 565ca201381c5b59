"""Metrics of `eval.metrics` from an image's importance weights: whether L_S can be believed, and its jackknife."""

import math
from typing import Any

import arviz_stats.base
import torch
from torch import Tensor

from evidence.errors import UserError
from evidence.models import LatentVariableModel
from evidence.numerics import log_mean_exp


class ParetoK:
    """k-hat, the shape of a generalised Pareto distribution fitted to the largest weights of each image.

    An estimate from S weights is not to be believed where it is above min(1 - 1 / log10 S, 0.7) (Vehtari et al. 2024,
    Pareto smoothed importance sampling). `khat_above` is 1 there and else 0, so that its mean is the share of images.
    Where no distribution can be fitted to the tail both are 1: of fewer than FEWEST samples, and where the weights of
    a quarter of the tail are no larger than what is below it, to the digits of float64. Both are 0 where the weights
    of the tail are equal to EVEN nats.
    """

    FEWEST = 25
    EVEN = 1e-6

    def __call__(self, model: LatentVariableModel, x: Tensor, log_weights: Tensor) -> dict[str, Tensor]:
        """Of log-weights [S, B]: [B] each."""
        count = len(log_weights)
        if count < self.FEWEST:
            return dict.fromkeys(("khat", "khat_above"), x.new_ones(len(x)))
        ascending = log_weights.double().sort(0).values
        size = math.floor(min(count / 5, 3 * math.sqrt(count)))  # of the tail
        cutoff, lowest, quartile, largest = ascending[[-size - 1, -size, -size + int(size / 4 + 0.5) - 1, -1]]
        is_even = largest - lowest < self.EVEN
        is_fitted = ~is_even & ((quartile - largest).exp() > (cutoff - largest).exp())
        khat = torch.where(is_even, 0.0, 1.0).double()
        if is_fitted.any():
            # The library is given log-likelihoods, whose negative is the log-weight.
            rows = -log_weights[:, is_fitted].double().T.cpu().numpy()
            library: Any = arviz_stats.base.array_stats  # type: ignore[attr-defined]
            khat[is_fitted] = torch.as_tensor(library.psislw(rows, axis=-1)[1]).to(khat)
        threshold = min(1 - 1 / math.log10(count), 0.7)
        return {"khat": khat, "khat_above": (khat > threshold).double()}


class Jackknife:
    """Jackknife estimates of -log p(x) from groups of K weights, averaged over the groups (Nowozin 2018).

    jvi_1 = -(K L_K - (K - 1) mean L_{K-1})
    jvi_2 = -(K^2/2 L_K - (K - 1)^2 mean L_{K-1} + (K - 2)^2/2 mean L_{K-2})
    The means are over all ways to leave one or two of the K samples out. They take the leading terms out of the bias of
    L_K, and are no bounds. `nll_group`, -L_K, is beside them. Samples that make no whole group are left out. Fewer than
    K samples are one group, and fewer than three are not jackknifed.
    """

    def __init__(self, group: int) -> None:
        if group < 3:
            raise UserError(f"group={group}: needs 3 samples or more, of which two are left out")
        self.group = group

    def __call__(self, model: LatentVariableModel, x: Tensor, log_weights: Tensor) -> dict[str, Tensor]:
        """Of log-weights [S, B]: [B] each."""
        k = min(self.group, len(log_weights))
        if k < 3:
            return dict.fromkeys(("nll_group", "jvi_1", "jvi_2"), -log_mean_exp(log_weights.double()))
        groups = len(log_weights) // k
        log_w = log_weights[: groups * k].double().unflatten(0, (groups, k))
        whole = log_mean_exp(log_w, 1)  # [groups, B]
        one, two = (sums.mean(-1) for sums in left_out(log_w.movedim(1, -1)))
        one, two = one - math.log(k - 1), two - math.log(k - 2)
        first = k * whole - (k - 1) * one
        second = k**2 / 2 * whole - (k - 1) ** 2 * one + (k - 2) ** 2 / 2 * two
        return {"nll_group": -whole.mean(0), "jvi_1": -first.mean(0), "jvi_2": -second.mean(0)}


def left_out(log_weights: Tensor) -> tuple[Tensor, Tensor]:
    """log of the sum of K weights without each one, [..., K], and without each pair, [..., K (K - 1) / 2].

    Of log-weights [..., K]. They are sorted, and only a sum of smaller ones is taken from a sum of larger ones, so
    that all digits are kept.
    """
    ascending = log_weights.sort(-1).values
    k, nothing = log_weights.shape[-1], torch.full_like(log_weights[..., :1], -torch.inf)
    below = torch.cat([nothing, ascending.logcumsumexp(-1)], -1)  # of the i smallest, [..., K + 1]
    above = torch.cat(
        [ascending.flip(-1).logcumsumexp(-1).flip(-1), nothing], -1
    )  # of those from the i-th on
    i, j = torch.triu_indices(k, k, 1, device=log_weights.device)
    share = (
        (below[..., i + 1] - below[..., j]).exp().nan_to_num(0.0)
    )  # of the smaller ones in the sum below j
    between = torch.where(i + 1 < j, below[..., j] + torch.log1p(-share), -torch.inf)
    pairs = below[..., i].logaddexp(above[..., j + 1]).logaddexp(between)
    return below[..., :-1].logaddexp(above[..., 1:]), pairs
