"""L_k, its gap and the variance of log w-bar against k."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from evidence.display import style
from evidence.display.style import DARK, MIDDLE, THIRD

STYLES = [(MIDDLE, "s"), (DARK, "o"), (THIRD, "^")]  # in the models' order
BARS: dict[str, Any] = {"capsize": 3, "linewidth": 1.2}
DASHED: dict[str, Any] = {"color": "0.2", "linestyle": "--", "linewidth": 1.2}


def bounds(found: Mapping[str, pd.DataFrame], path: Path) -> None:
    """A panel for the trained models, and one for the model whose log p(x) is known."""
    is_exact = {name: "log_evidence" in table for name, table in found.items()}
    groups = [[name for name in found if is_exact[name] is exact] for exact in (False, True)]
    groups = [group for group in groups if group]
    figure, (panels,) = style.panels(1, len(groups), (4.6 * len(groups), 3.6))
    for axes, group in zip(panels, groups, strict=True):
        for name in group:
            _line(axes, found, name, "bound", "sampling_se")
            if is_exact[name]:
                axes.axhline(found[name]["log_evidence"].iloc[0], label="exact log p(x)", **DASHED)
        trained = not is_exact[group[0]]
        axes.set_title("trained on MNIST" if trained else "linear-Gaussian model", fontsize=10)
        axes.set_ylabel("$L_k$ (nats per image)" if trained else "$L_k$ (nats)")
        _finish(axes)
    style.save(figure, path)


def gaps(found: Mapping[str, pd.DataFrame], path: Path) -> None:
    """The variance of every model; the gap beside half of it where log p(x) is known."""
    exact = [table for table in found.values() if "log_evidence" in table]
    figure, (panels,) = style.panels(1, 1 + len(exact), (4.6 * (1 + len(exact)), 3.6))
    for name in found:
        _line(panels[0], found, name, "variance", "variance_se")
    panels[0].set_title("variance of log w-bar", fontsize=10)
    panels[0].set_ylabel(r"Var log $\bar w_k$ (nats², mean over images)")
    for axes, table in zip(panels[1:], exact, strict=True):
        k, half, two_errors = table["k"], table["variance"] / 2, table["variance_se"]
        variance = style.look(MIDDLE, "s", markersize=8, markerfacecolor="w", **BARS)
        axes.errorbar(k, half, two_errors, label=r"Var log $\bar w_k$ / 2", **variance)
        gap = style.look(DARK, "o", markersize=4, **BARS)
        axes.errorbar(k, table["gap"], 2 * table["gap_se"], label="log p(x) $-$ $L_k$", **gap)
        axes.plot(k, table["asymptote"], label="Var[w / p(x)] / 2k", **DASHED)
        axes.set_title("linear-Gaussian model", fontsize=10)
        axes.set_ylabel("nats")
    for axes in panels:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        _finish(axes)
    style.save(figure, path)


def _line(axes: Axes, found: Mapping[str, pd.DataFrame], name: str, values: str, errors: str) -> None:
    table, (colour, marker) = found[name], STYLES[list(found).index(name)]
    line = style.look(colour, marker, markersize=5, label=name, **BARS)
    axes.errorbar(table["k"], table[values], 2 * table[errors], **line)


def _finish(axes: Axes) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_xlabel("k, samples averaged in $\\bar w_k$")
    style.finish(axes)
    axes.legend(frameon=False, fontsize=8)
