"""Has what all figures share: colours, resolution, axes without a box, legends.

The colours differ in lightness, so that they differ in greyscale too. Figures are made without pyplot.
"""

from collections.abc import Iterable
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure

DARK, MIDDLE, THIRD, LIGHT = "#1b3a5c", "#d9742b", "#2a9d74", "#b9c6d3"  # LIGHT is for areas, not for lines
# For several lines: Okabe and Ito (2008), which readers with any colour vision tell apart, without the yellow.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#56B4E9", "#E69F00")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DPI = 150


def panels(rows: int, columns: int, size: tuple[float, float], **shared: Any) -> tuple[Figure, Any]:
    """A figure of `size` inches, and its axes as an array [rows, columns].

    `shared` are arguments of Figure.subplots.
    """
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **shared)


def look(color: str, marker: str, **more: Any) -> dict[str, Any]:
    """The keywords of a line for Axes.plot and Axes.errorbar."""
    return {"color": color, "marker": marker, **more}


def looks(count: int) -> list[dict[str, Any]]:
    """A colour and a marker for each of `count` lines. 56 of them differ."""
    return [look(*each) for each in islice(zip(cycle(COLOURS), cycle(MARKERS), strict=False), count)]


def save(figure: Figure, path: Path) -> None:
    """Write the figure as the PNG `path`, and as a PDF beside it. The PDF has no date, so it is the same again."""
    figure.savefig(path)
    figure.savefig(path.with_suffix(".pdf"), metadata={"CreationDate": None})


def finish(*axes: Axes, grid: Literal["both", "x", "y"] = "both") -> None:
    """Draw thin grey grid lines, and remove the axes' top and right edges."""
    for each in axes:
        each.grid(axis=grid, color="0.9", linewidth=0.6)
        each.spines[["top", "right"]].set_visible(False)


def log_ticks(axes: Axes, values: Iterable[int]) -> list[int]:
    """Make the horizontal axis logarithmic, with ticks at these values only. Return the ticks in order."""
    ticks = sorted({int(value) for value in values})
    axes.set_xscale("log")
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    return ticks


def legend_below(figure: Figure, axes: Axes, columns: int, **more: Any) -> None:
    """Draw one legend below all panels: that of `axes`."""
    handles = axes.get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=columns, frameon=False, **more)
