"""Our figure beside a published one: runs of one kind put together, and what may be said of their difference.

A short training is not judged by its figure. A full one lies within what careful reproductions attain, or does not.
"""

import re
from collections.abc import Sequence

import pandas as pd

NATS, NATS_AT_ONE = 0.5, 1.0  # of a full-length run, for k >= 5 and for k = 1
UNITS = 2  # active ones
PASSES = 3280  # of Burda et al. 2015: eight stages


def length(stages: object) -> tuple[int, str]:
    """A run's length from its param `stages`, to be compared and to be read: passes of a staged one, or steps."""
    if steps := re.fullmatch(r"(\d+) steps", str(stages)):
        return int(steps[1]), f"{int(steps[1]):,} steps"
    passes = (3 ** int(str(stages)) - 1) // 2
    return passes, f"{passes} of {PASSES} passes"


def longest(runs: pd.DataFrame, cell: Sequence[str]) -> pd.DataFrame:
    """Of each cell, a combination of values of these columns, the runs that went furthest and were scored best.

    One for each seed, the latest; the columns `length` and `budget` say how far they went.
    """
    if runs.empty:
        return runs
    lengths = [length(stages) for stages in runs["stages"]]
    runs = runs.assign(length=[each for each, _ in lengths], budget=[words for _, words in lengths])
    furthest = ["length", "eval_images", "eval_samples"]
    for column in furthest:
        runs = runs[runs[column] == runs.groupby(list(cell), dropna=False)[column].transform("max")]
    return runs.sort_values("date", kind="stable").drop_duplicates([*cell, "seed"], keep="last")


def summary(runs: pd.DataFrame, metrics: Sequence[str]) -> dict[str, object]:
    """One row for runs that differ in their seed: mean and standard deviation over seeds, and where they are from.

    A metric `test/nll` becomes `nll` and `nll_sd`, which is missing where there is one seed.
    """
    row: dict[str, object] = {"seeds": len(runs)}
    for metric in metrics:
        name = metric.removeprefix("test/")
        values = runs[metric] if metric in runs else pd.Series(dtype=float)
        row |= {name: values.mean(), f"{name}_sd": values.std()}
    first, seeds = runs.iloc[0], runs.sort_values("seed")
    return row | {
        "budget": first["budget"],
        "length": first["length"],
        "eval_samples": first["eval_samples"],
        "eval_images": first["eval_images"],
        "machine": "; ".join(dict.fromkeys(_machine(run) for _, run in seeds.iterrows())),
        "date": runs["date"].max(),
        "commit": "; ".join(dict.fromkeys(_commit(run) for _, run in seeds.iterrows())),
        "runs": "; ".join(seeds["run"]),
    }


def _machine(run: "pd.Series[str]") -> str:
    processor = run.get("processor")  # of runs since it is recorded
    return processor if run["device"] == "cpu" and isinstance(processor, str) else run["device"]


def _commit(run: "pd.Series[str]") -> str:
    """Such as "1edc420", with a plus where the checkout had changes."""
    return run["git_commit"][:7] + "+" * (run["git_dirty"] == "true")


def verdict(ours: float, published: float, tolerance: float, is_full: bool, unit: str = "nats") -> str:
    """In words, for a figure of which less is better; a short training is only said to be one."""
    if pd.isna(published):
        return "none published"
    if not is_full:
        return "short budget"
    if abs(ours - published) <= tolerance:
        return f"within {tolerance:g} {unit}"
    return f"{'worse' if ours > published else 'better'} by {abs(ours - published):.2f} {unit}"


def mean_and_deviation(mean: float, deviation: float, digits: int = 2) -> str:
    """Such as "93.94 ± 0.12"; the mean alone where there is one seed, and nothing where there is no value."""
    if pd.isna(mean):
        return ""
    return f"{mean:.{digits}f}" + ("" if pd.isna(deviation) else f" ± {deviation:.{digits}f}")
