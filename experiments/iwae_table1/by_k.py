"""What VAE and IWAE gain from k = 1 to 50: differences over the seeds that cells share."""

from collections.abc import Sequence
from itertools import pairwise

import pandas as pd

from evidence.report.paired import Paired, by_seed, paired
from experiments.iwae_table1.paper import KS


def by_k(runs: pd.DataFrame, objective: str, metric: str) -> "list[pd.Series[float]]":
    """The metric by seed at each k of KS. The IWAE with k = 1 has the VAE's bound, so the VAE stands in for it."""
    kinds = {kind: by_seed(like, metric) for kind, like in runs.groupby(["objective", "k"])}
    if ("vae", 1) in kinds:
        kinds.setdefault(("iwae", 1), kinds["vae", 1])
    return [kinds.get((objective, k), pd.Series(dtype=float)) for k in KS]


def steps(values: "Sequence[pd.Series[float]]") -> list[Paired]:
    """The value at each k less that at the k before: below zero where values fall with k."""
    return [paired(after, before) for before, after in pairwise(values)]


def excess(vae: "Sequence[pd.Series[float]]", iwae: "Sequence[pd.Series[float]]") -> Paired:
    """The VAE's change from k = 1 to 50, either way, less half of what the IWAE falls by."""
    return paired((vae[0] - vae[-1]).abs(), (iwae[0] - iwae[-1]) / 2)
