"""L_k = E log w-bar_k, w-bar_k = (1/k) sum_i w_i, for k from 1 to 5000, and the variance of log w-bar_k.

log p(x) - L_k = -E log (w-bar_k / p(x)) is what Jensen's inequality leaves, about Var[w / p(x)] / (2k) for large k
(Maddison et al. 2017, Proposition 1). An image's log-weights come in pools; a pool's disjoint groups of k give
independent draws of log w-bar_k, whose mean is unbiased for L_k(x). Within a pool the mean cannot fall when k is
multiplied, by Jensen's inequality for the numbers at hand, whatever the code does: so each k takes its draws from
every other pool, and the next k from the pools between.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from evidence.numerics import log_mean_exp

GRID = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000]  # all divide the last
POOL = GRID[-1]
POOLS = 16  # for each image: eight draws of log w-bar_5000, 40,000 of log w


class Draws(NamedTuple):
    """Independent draws of log w-bar_k for one image, [G]."""

    k: int
    log_means: Tensor


def ladder(pool: Callable[[], Tensor], pools: int) -> Iterator[Draws]:
    """For each k of GRID; pool() gives fresh log-weights [POOL] of one image."""
    log_w = [pool() for _ in range(pools)]
    for rung, k in enumerate(GRID):
        own = torch.stack(log_w[rung % 2 :: 2])
        yield Draws(k, log_mean_exp(own.view(-1, k), 1))


def moments(draws: Draws) -> dict[str, float]:
    """Mean and variance of one image's draws."""
    log_means = draws.log_means
    return {
        "k": draws.k,
        "draws": len(log_means),
        "bound": log_means.mean().item(),
        "variance": log_means.var().item(),
    }


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Means over images for each k, with their standard errors.

    `bound_se` has the images for a sample from many; `sampling_se` has them fixed, and what is left is from the weights
    drawn. `rise` of the bound and `fall` of the variance are from the k before to this one, differences on the same
    images from weights of their own, with standard errors over images. Where log p(x) is known, so is
    E w-bar_k / p(x) = 1, and `gap`, from which that noise is taken, gives the rise.
    """
    found: list[dict[str, float]] = []
    log_evidence = rows.drop_duplicates("image").set_index("image").get("log_evidence")
    bounds, variances = (
        rows.pivot(index="image", columns="k", values=name) for name in ("bound", "variance")
    )
    rising = bounds if log_evidence is None else -rows.pivot(index="image", columns="k", values="gap")
    for k, group in rows.groupby("k"):
        line = {"k": k, "images": len(group), "draws": group["draws"].iloc[0]}
        line |= _mean("bound", group["bound"]) | _mean("variance", group["variance"])
        line["sampling_se"] = np.sqrt((group["variance"] / group["draws"]).mean() / len(group))
        if found:
            below = found[-1]["k"]
            line |= _mean("rise", rising[k] - rising[below]) | _mean("fall", variances[below] - variances[k])
        if log_evidence is not None:
            line |= {"log_evidence": log_evidence.mean(), "log_evidence_se": log_evidence.sem()}
            line |= _mean("shortfall", log_evidence - bounds[k]) | _mean("gap", group["gap"])
            line |= _mean("asymptote", group["asymptote"]) | _ratio(group["gap"], group["asymptote"])
        found.append(line)
    return pd.DataFrame(found)


def _mean(name: str, values: "pd.Series[float]") -> dict[str, float]:
    return {name: values.mean(), f"{name}_se": values.sem()}


def _ratio(above: "pd.Series[float]", below: "pd.Series[float]") -> dict[str, float]:
    """Of two means over the same images; its standard error is that of mean(above - ratio * below) / mean(below)."""
    ratio = above.mean() / below.mean()
    return {"ratio": ratio, "ratio_se": (above - ratio * below).sem() / below.mean()}
