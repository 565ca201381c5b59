"""L_k, its gap and the variance of log w-bar against k."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from evidence.display.plots import DARK, DPI, LIGHT, MIDDLE

STYLES = [(MIDDLE, "s"), (DARK, "o"), (LIGHT, "^")]  # in the models' order


def bounds(found: Mapping[str, pd.DataFrame], path: Path) -> None:
    """A panel for the trained models, and one for the model whose log p(x) is known."""
    groups = [
        {name: table for name, table in found.items() if ("log_evidence" in table) is exact}
        for exact in (False, True)
    ]
    groups = [group for group in groups if group]
    figure = Figure(figsize=(4.6 * len(groups), 3.6), dpi=DPI, layout="constrained")
    panels = figure.subplots(1, len(groups), squeeze=False)[0]
    for axes, group in zip(panels, groups, strict=True):
        for name, table in group.items():
            _line(axes, found, name, table["bound"], table["sampling_se"], name)
            if "log_evidence" in table:
                exact = table["log_evidence"].iloc[0]
                axes.axhline(exact, color="0.2", linestyle="--", linewidth=1.2, label="exact log p(x)")
        trained = "log_evidence" not in next(iter(group.values()))
        axes.set_title("trained on MNIST" if trained else "linear-Gaussian model", fontsize=10)
        axes.set_ylabel("$L_k$ (nats per image)" if trained else "$L_k$ (nats)")
        _finish(axes)
    figure.savefig(path)


def gaps(found: Mapping[str, pd.DataFrame], path: Path) -> None:
    """The variance of every model; the gap beside half of it where log p(x) is known."""
    exact = [table for table in found.values() if "log_evidence" in table]
    figure = Figure(figsize=(4.6 * (1 + len(exact)), 3.6), dpi=DPI, layout="constrained")
    panels = figure.subplots(1, 1 + len(exact), squeeze=False)[0]
    for name, table in found.items():
        _line(panels[0], found, name, table["variance"], table["variance_se"], name)
    panels[0].set_title("variance of log w-bar", fontsize=10)
    panels[0].set_ylabel(r"Var log $\bar w_k$ (nats², mean over images)")
    for axes, table in zip(panels[1:], exact, strict=True):
        k, bars = table["k"], {"capsize": 3, "linewidth": 1.2}
        half, two_errors = table["variance"] / 2, table["variance_se"]
        variance = {"color": MIDDLE, "marker": "s", "markersize": 8, "markerfacecolor": "w"}
        axes.errorbar(k, half, two_errors, label=r"Var log $\bar w_k$ / 2", **variance, **bars)
        gap = {"color": DARK, "marker": "o", "markersize": 4}
        axes.errorbar(k, table["gap"], 2 * table["gap_se"], label="log p(x) $-$ $L_k$", **gap, **bars)
        axes.plot(
            k, table["asymptote"], color="0.2", linestyle="--", linewidth=1.2, label="Var[w / p(x)] / 2k"
        )
        axes.set_title("linear-Gaussian model", fontsize=10)
        axes.set_ylabel("nats")
    for axes in panels:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        _finish(axes)
    figure.savefig(path)


def _line(
    axes: Axes,
    found: Mapping[str, pd.DataFrame],
    name: str,
    values: "pd.Series[float]",
    errors: "pd.Series[float]",
    label: str,
) -> None:
    colour, marker = STYLES[list(found).index(name)]
    style = {"color": colour, "marker": marker, "markeredgecolor": DARK, "markersize": 5, "label": label}
    axes.errorbar(found[name]["k"], values, 2 * errors, capsize=3, linewidth=1.2, ecolor=DARK, **style)


def _finish(axes: Axes) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_xlabel("k, samples averaged in $\\bar w_k$")
    axes.grid(color="0.9", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
