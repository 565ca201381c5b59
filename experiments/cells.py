"""The one-layer MNIST runs of iwae_table1, which other studies measure again."""

import pandas as pd

from evidence.report import frame, judging
from evidence.report.study import Budget
from experiments import tables

EXPERIMENT = "iwae_table1"
CELL = ["objective", "k"]


def arguments(budget: Budget, *choices: str) -> list[str]:
    """Table 1's own arguments for its one-layer cells, of which a choice such as k=1 may replace one."""
    replaced = {choice.split("=")[0] for choice in choices}
    length = [each for each in tables.BUDGETS[budget] if each.split("=")[0] not in replaced]
    return [*tables.SIDE_BY_SIDE, f"experiment={EXPERIMENT}", "model=one_layer", *length, *choices]


def one_layer() -> pd.DataFrame:
    """The finished runs that MLflow holds."""
    runs = frame.finished(EXPERIMENT)
    return runs[(runs["model"] == "one_layer") & (runs["data"] == "mnist")] if len(runs) else runs


def first_seeds(runs: pd.DataFrame) -> pd.DataFrame:
    """The longest run of each cell with seed 0, by objective (VAE first) and k."""
    if runs.empty:
        return runs
    found = judging.longest(runs[runs["seed"] == 0], CELL)
    return found.sort_values(CELL, ascending=[False, True])


def label(objective: str, k: int) -> str:
    """Such as "IWAE k = 50"."""
    return f"{objective.upper()} k = {k}"
