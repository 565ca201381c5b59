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
    guard = "{}" * text.startswith(("[", "*"))  # which the line above would take for its argument
    return guard + MARKS.sub(lambda mark: SPECIAL[mark[0]], text)


def table(cells: pd.DataFrame, is_number: Sequence[bool], caption: str, label: str) -> str:
    r"""A table environment with the columns of `cells`, those of numbers aligned to the right.

    It needs `\usepackage{booktabs}`. `label` has letters, digits and hyphens.
    """
    style = cells.astype(str).style.hide(axis="index").format(escaped).format_index(escaped, axis=1)
    tex = style.to_latex(
        column_format="".join("r" if number else "l" for number in is_number),
        hrules=True,
        caption=escaped(caption),
        label=f"tab:{label}",
        position_float="centering",
    )
    return f"% needs \\usepackage{{booktabs}}\n{tex}"
