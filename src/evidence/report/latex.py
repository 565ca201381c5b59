"""Writes a table in LaTeX, with the rules of the package booktabs."""

import re
from collections.abc import Sequence

import pandas as pd

SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    "\N{MINUS SIGN}": "$-$",
    "\N{MULTIPLICATION SIGN}": r"$\times$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "—": "---",
    "\N{EN DASH}": "--",
    **{mark: rf"\{mark}" for mark in "{}$&#%_"},
}
MARKS = re.compile("|".join(map(re.escape, SPECIAL)))


def escaped(text: str) -> str:
    r"""The text as LaTeX shows it literally, such as `one\_layer` and `94.56 $\pm$ 0.25`."""
    return MARKS.sub(lambda mark: SPECIAL[mark[0]], text)


def table(cells: pd.DataFrame, is_number: Sequence[bool], caption: str, label: str) -> str:
    r"""A table environment with the columns of `cells`, those of numbers aligned to the right.

    It needs `\usepackage{booktabs}`. `label` has letters, digits and hyphens.
    """
    rows = [_row(row) for row in cells.itertuples(index=False, name=None)]
    lines = [
        r"% needs \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escaped(caption)}}}",
        rf"\label{{tab:{label}}}",
        rf"\begin{{tabular}}{{{''.join('r' if number else 'l' for number in is_number)}}}",
        r"\toprule",
        _row(list(cells)),
        r"\midrule",
        *rows,
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[object]) -> str:
    shown = " & ".join(escaped(str(cell)) for cell in cells)
    guard = "{}" * shown.startswith(("[", "*"))  # which the line above would take for its argument
    return rf"{guard}{shown} \\"
