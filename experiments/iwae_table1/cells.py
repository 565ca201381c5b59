"""The one-layer MNIST runs of iwae_table1, which other studies measure again."""

from collections.abc import Collection

import pandas as pd

from evidence.report.selection import Chosen, among
from evidence.report.study import SIDE_BY_SIDE, Budget
from experiments.iwae_table1 import tables
from experiments.iwae_table1.paper import BUDGETS

EXPERIMENT = "iwae_table1"
CELL = ["objective", "k"]


def arguments(budget: Budget, *choices: str) -> list[str]:
    """Table 1's own arguments for its one-layer cells, of which a choice such as k=1 may replace one."""
    replaced = {choice.split("=")[0] for choice in choices}
    length = [each for each in BUDGETS[budget] if each.split("=")[0] not in replaced]
    return [*SIDE_BY_SIDE, f"experiment={EXPERIMENT}", "model=one_layer", *length, *choices]


def one_layer(runs: pd.DataFrame) -> Chosen:
    """The runs that Table 1 shows of these cells, of all that MLflow holds."""
    return tables.chosen(among(runs, {"model": ["one_layer"], "data": ["mnist"]}))


def first_seeds(chosen: pd.DataFrame) -> pd.DataFrame:
    """Of each cell the run with the lowest seed, by objective (VAE first) and k."""
    if chosen.empty:
        return chosen
    by_cell = chosen.sort_values([*CELL, "seed"], ascending=[False, True, True])
    return by_cell.drop_duplicates(CELL)


def measured(runs: pd.DataFrame, wanted: Collection[tuple[str, int]]) -> Chosen:
    """Of each wanted cell, an objective and k, the run with the lowest seed: what a study measures again."""
    chosen, notes = one_layer(runs)
    is_wanted = [(run["objective"], run["k"]) in wanted for _, run in chosen.iterrows()]
    return Chosen(first_seeds(chosen[is_wanted]), notes)


def label(objective: str, k: int) -> str:
    """Such as "IWAE k = 50"."""
    return f"{objective.upper()} k = {k}"
