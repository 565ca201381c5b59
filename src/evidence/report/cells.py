"""Groups the runs of any experiment into cells, by the settings that differ between them.

A cell is a group of like runs (see `selection`): they differ in their seed alone. A setting of the cell is a column
of the table if the cells cannot be told apart without it.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from evidence.display.terminal import OWN
from evidence.report.compare import length, summary
from evidence.report.selection import alike, complete, is_setting
from evidence.report.shown import SEED

# Columns wherever they differ, with their headings. The others follow only where they distinguish more cells.
FIRST = {
    "objective": "objective",
    "k": "k",
    "model": "model",
    "data": "data",
    "trained": "trained",
    "source": "starts from",
    "eval_samples": "S",
    "eval_images": "images",
}
SAID_BY_FIRST = (
    "steps",
    "init_from",
    "objective.name",
    "objective.k",
    "model.name",
    "data.name",
    "trainer.stages",
    "trainer.steps",
    "eval.samples",
    "eval.images",
)
LAST = {"code": "code", "content": "content of the data", "mixed": "mixed"}  # digests and words of `alike`
SCORE = re.compile(r"test(_[^/]+)?/")  # of the test images, and of the data sets of eval.also
OURS = re.compile(rf"test/({OWN.pattern})")  # others are a user's


class Cells(NamedTuple):
    """Like runs by cell.

    table: a row for each cell: its settings under their headings, then what `summary` has, then a user's metrics and
      those of eval.also by their whole names, with `deviation_of` each, since they may have any name.
    columns: the headings of the settings. There is at least one.
    runs: the runs of each row.
    notes: what differs along with these columns, and which runs are in no row.
    """

    table: pd.DataFrame
    columns: list[str]
    runs: list[pd.DataFrame]
    notes: list[str]


def cells(runs: pd.DataFrame) -> Cells:
    """The cells of these finished runs. Of each seed of a cell the latest run counts.

    A run computed by several codes (mixed) is a cell of its own.
    """
    groups, mixed, unknown = alike(complete(runs))
    notes = [f"In no row: {'; '.join(unknown)}."] if unknown else []
    groups += mixed
    if not groups:
        return Cells(pd.DataFrame(), [], [], notes)
    first = pd.DataFrame([_settings(group) for group in groups]).astype(object).fillna("")
    columns = {name: heading for name, heading in FIRST.items() if first[name].nunique() > 1}
    along = []
    for name in (name for name in first if name not in FIRST):
        if first[name].nunique() == 1:
            continue
        if _count(first, [*columns, name]) > _count(first, [*columns]):
            columns[name] = LAST.get(name, name)
        elif (
            name not in (*SAID_BY_FIRST, *LAST)
            and not name.endswith("._target_")
            and not _belongs(first[name])
        ):
            along.append(f"`{name}` ({', '.join(dict.fromkeys(map(str, first[name])))})")
    columns = columns or {"objective": "objective"}
    if along:
        notes.append(f"Settings that change together with the table's columns: {'; '.join(along)}.")
    metrics = [name for name in runs if SCORE.match(name) and not name.endswith("/nll_se")]
    ours = [name for name in metrics if OURS.fullmatch(name)]
    rows = [
        {heading: settings[name] for name, heading in columns.items()}
        | summary(kind.assign(passes=_passes(kind), budget=settings["trained"]), ours)
        | {"nll_se": kind["test/nll_se"].iloc[0] if len(kind) == 1 else None}
        | {name: kind[name].mean(skipna=False) for name in metrics if name not in ours}
        | {deviation_of(name): kind[name].std(skipna=False) for name in metrics if name not in ours}
        for kind, (_, settings) in zip(groups, first.iterrows(), strict=True)
    ]
    table = pd.DataFrame(rows)
    headings = [*columns.values()]
    order = table.sort_values(headings, key=_sortable, kind="stable").index
    return Cells(table.loc[order].reset_index(drop=True), headings, [groups[row] for row in order], notes)


def deviation_of(metric: str) -> str:
    """The column with the standard deviation over seeds of such a metric. No metric has this name."""
    return f"{metric} (sd)"


def label(row: "pd.Series[str]", columns: Sequence[str]) -> str:
    """A cell's settings in words, such as `iwae, k = 5`. A setting that the cell does not have is left out."""
    plain = ("objective", "model", "data", "trained")
    words = [
        str(row[name]) if name in plain else f"{name} = {row[name]}" for name in columns if row[name] != ""
    ]
    return ", ".join(words)


def _settings(kind: pd.DataFrame) -> "pd.Series[str]":
    """What a group of like runs has in common, by the names of FIRST, of the settings and of LAST."""
    run = kind.iloc[0]
    names = [name for name in kind if is_setting(name) and kind[name].nunique(dropna=False) == 1]
    source = run.get("init_from")
    first = {name: run.get(name) for name in FIRST} | {
        "trained": length(run["stages"])[1],
        "source": None if pd.isna(source) else SEED.sub("", str(source).rsplit("/", 1)[-1]),
    }
    last = {"code": run["code_digest"][:6], "content": run["data_digest"][:6], "mixed": run["mixed"]}
    return pd.Series(
        {**first, **{name: run[name] for name in names if name not in first}, **last}, dtype=object
    )


def _passes(kind: pd.DataFrame) -> int | None:
    return length(kind["stages"].iloc[0])[0]


def _count(frame: pd.DataFrame, names: list[str]) -> int:
    return len(frame[names].astype(str).drop_duplicates()) if names else 1


def _belongs(values: "pd.Series[str]") -> bool:
    """Whether the setting comes with a part: where there is one, it has one value."""
    return values[values != ""].nunique() == 1


def _sortable(column: "pd.Series[str]") -> "pd.Series[str]":
    """Numbers by their value, and before them what is not set. All else as text."""
    numbers = pd.to_numeric(column, errors="coerce")
    is_numeric = numbers.notna().eq(column != "").all()
    return numbers.fillna(-float("inf")) if is_numeric else column.astype(str)
