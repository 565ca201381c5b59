"""Has what all figures share: colours, resolution, axes without a box, legends.

The colours differ in lightness, so that they differ in greyscale too. Figures are made without pyplot.
"""

from collections.abc import Iterable
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure

DARK, MIDDLE, LIGHT = "#1b3a5c", "#d9742b", "#b9c6d3"
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
