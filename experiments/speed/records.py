"""What a measurement leaves: one row each in a CSV file, and from the rows a table in Markdown."""

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import pandas as pd


class Row(NamedTuple):
    """One figure. A ratio is the median of the ratios within a round; None is written as nothing."""

    section: str
    case: str
    contestant: str
    device: str
    unit: str
    median: float
    lowest: float
    highest: float
    repetitions: int
    over_floor: float | None = None  # its time over that of its matrix products at the machine's own rate
    jax_over_it: float | None = None
    pythae_over_it: float | None = None
    plain_over_it: float | None = None
    peak_mib: float | None = None


def write_csv(path: Path, rows: Sequence[NamedTuple]) -> None:
    """One line for each row, under the names of its fields; five digits are more than can be repeated."""
    pd.DataFrame(rows).to_csv(path, index=False, float_format="%.5g")


COLUMNS: dict[str, Callable[[Row], str | None]] = {
    "over its floor": lambda row: _ratio(row.over_floor),
    "of the machine's rate": lambda row: None if row.over_floor is None else f"{1 / row.over_floor:.0%}",
    "JAX / it": lambda row: _ratio(row.jax_over_it),
    "pythae / it": lambda row: _ratio(row.pythae_over_it),
    "plain / it": lambda row: _ratio(row.plain_over_it),
    "peak MiB": lambda row: None if row.peak_mib is None else f"{row.peak_mib:.0f}",
}


def table(rows: Iterable[Row]) -> str:
    """The rows in Markdown, a heading for each section and case, a table for each unit; without empty columns."""
    lines: list[str] = []
    heading = None
    for (section, case, unit), group in groupby(rows, lambda row: (row.section, row.case, row.unit)):
        cells = [(row, {name: column(row) for name, column in COLUMNS.items()}) for row in group]
        names = [name for name in COLUMNS if any(columns[name] for _, columns in cells)]
        if heading != (section, case):
            heading = section, case
            lines += ["", f"## {section}{', ' * bool(case)}{case}"]
        lines += [""]
        lines += [f"| | {' | '.join([f'{unit}, median (lowest to highest)', *names])} |"]
        lines += ["|" + "---|" * (2 + len(names))]
        for row, columns in cells:
            spread = f"{_figure(row.median)} ({_figure(row.lowest)} to {_figure(row.highest)})"
            lines += [f"| {' | '.join([row.contestant, spread, *(columns[name] or '' for name in names)])} |"]
    return "\n".join(lines[1:]) + "\n"


def _ratio(value: float | None) -> str | None:
    return None if value is None else f"{value:.2f}"


def _figure(value: float) -> str:
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"
