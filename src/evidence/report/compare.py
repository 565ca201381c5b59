"""Compares our figure with a published one.

Like runs are summarized in one row. A short training is not compared by its figure. A full one is compared with a
tolerance, which is what careful reproductions attain.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from evidence.display.digits import form

# What figures must have in common to be compared, by column, with the name that notes use.
COMPARED = {"budget": "trained", "eval_samples": "S", "eval_images": "test images", "data_digest": "data"}
# What like runs have in common besides their settings.
OF_ALL = (
    "budget",
    "passes",
    "steps",
    "eval_samples",
    "eval_images",
    "cell_identity",
    "data_digest",
    "code_digest",
)


NLL_OVER_SEEDS = "NLL, nats (± sd over seeds)"  # headings; of one seed there is no ±
UNITS_OVER_SEEDS = "active units (± sd over seeds)"


def length(stages: object, published: int | None = None) -> tuple[int | None, str]:
    """A run's length from its param `stages`: its passes, None where it is given in steps, and the length as text.

    The text also has the published number of passes.
    """
    if steps := re.fullmatch(r"(\d+) steps", str(stages)):
        return None, f"{int(steps[1]):,} steps"
    passes = (3 ** int(str(stages)) - 1) // 2
    if published is None:
        return passes, f"{passes} pass{'es' * (passes > 1)}"
    return passes, f"{passes} of {published} passes"


def summary(runs: pd.DataFrame, metrics: Sequence[str]) -> dict[str, object]:
    """One row for like runs, which differ in their seed: mean and standard deviation, and where the runs are from.

    A metric `test/nll` becomes `nll` and `nll_sd`. The latter is missing where there is one seed. Both are missing
    where a run lacks the metric.
    """
    row: dict[str, object] = {"seeds": len(runs)}
    for metric in metrics:
        name = metric.removeprefix("test/")
        values = runs[metric] if metric in runs else pd.Series([math.nan])
        row |= {name: values.mean(skipna=False), f"{name}_sd": values.std(skipna=False)}
    first, seeds = runs.iloc[0], runs.sort_values("seed")
    return row | {
        **{name: first[name] for name in OF_ALL},
        "machine": distinct(_machine(run) for _, run in seeds.iterrows()),
        "date": distinct(sorted(runs["date"])),
        "commit": distinct(commit(run) for _, run in seeds.iterrows()),
        "runs": "; ".join(seeds["run"]),
    }


def summaries(runs: pd.DataFrame, cell: Sequence[str], metrics: Sequence[str]) -> pd.DataFrame:
    """The `summary` of each cell of runs that `choose` has chosen.

    A cell is a combination of values of these columns.
    """
    groups = runs.groupby([*cell], sort=False) if len(runs) else []
    return pd.DataFrame(dict(zip(cell, key, strict=True)) | summary(like, metrics) for key, like in groups)


def apart(rows: Sequence["pd.Series[str]"], names: Sequence[str] = tuple(COMPARED)) -> str:
    """Why the figures of some rows of `summary` cannot be compared, as text. Empty where they can."""
    found = []
    for name in names:
        values = dict.fromkeys(str(row[name]) for row in rows)
        if len(values) > 1:
            found.append(f"{COMPARED[name]} {' and '.join(values)}")
    return f"not compared: {'; '.join(found)}" if found else ""


def distinct(values: Iterable[str]) -> str:
    """Each value once."""
    return "; ".join(dict.fromkeys(values))


def seeds(*counts: int) -> str:
    """The number of seeds in words: "one seed", "3 seeds", "1 to 3 seeds"."""
    low, high = min(counts), max(counts)
    if high == 1:
        return "one seed"
    return f"{high} seeds" if low == high else f"{low} to {high} seeds"


def _machine(run: "pd.Series[str]") -> str:
    processor = run.get("processor")  # missing in runs of earlier versions
    return processor if run["device"] == "cpu" and isinstance(processor, str) else run["device"]


def commit(run: "Mapping[str, str] | pd.Series[str]") -> str:
    """The commit in a run's tags, such as "1edc420", with a plus where the checkout had changes."""
    return run["git_commit"][:7] + "+" * (run["git_dirty"] == "true")


def verdict(ours: float, published: float, tolerance: float, is_full: bool) -> str:
    """The comparison of an NLL in nats with a published one, as text; lower is better.

    A short training gives "short budget".
    """
    if pd.isna(published):
        return "none published"
    if not is_full:
        return "short budget"
    if abs(ours - published) <= tolerance:
        return f"within {tolerance:g} nats"
    return f"{'worse' if ours > published else 'better'} by {abs(ours - published):.2f} nats"


def mean_and_deviation(mean: float, deviation: float, digits: int = 2) -> str:
    """Text such as "93.94 ± 0.12". It is the mean alone where there is one seed, and empty where there is no value."""
    if pd.isna(mean):
        return ""
    shape = form(mean, digits)
    return f"{mean:{shape}}" + ("" if pd.isna(deviation) else f" ± {deviation:{shape}}")
