"""The pictures of the study: q over its target, and how the fit went."""

from pathlib import Path

import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from evidence.display.plots import DARK, DPI, MIDDLE
from experiments.uivi_toys.targets import targets

GREY = "#7d8fa3"
WINDOWS = {"banana": (-3.5, 3.5, -9.5, 2.0), "multimodal": (-5, 5, -4, 4), "x_shaped": (-4.5, 4.5, -4.5, 4.5)}
STYLES = dict(zip(WINDOWS, [(DARK, "o"), (MIDDLE, "s"), (GREY, "^")], strict=True))
MASSES = (0.1, 0.3, 0.5, 0.7, 0.9, 0.99)  # that the contours enclose
GRID = 300


def title(name: str) -> str:
    """Of a target, to be read."""
    return name.replace("_", "-")


def draw_samples(samples: pd.DataFrame, path: Path) -> None:
    """Samples of q, columns target, z_1 and z_2, over the contours of p that enclose 10 to 99% of its mass."""
    figure = Figure(figsize=(10.0, 3.7), dpi=DPI, layout="constrained")
    for axes, (name, window) in zip(figure.subplots(1, 3), WINDOWS.items(), strict=True):
        axis_1, axis_2 = (torch.linspace(low, high, GRID) for low, high in (window[:2], window[2:]))
        points = torch.cartesian_prod(axis_1, axis_2).unflatten(0, (GRID, GRID))
        density = targets()[name].log_prob(points).exp()
        sorted_density = density.flatten().sort(descending=True).values
        enclosed = sorted_density.cumsum(0) / sorted_density.sum()
        levels = sorted(sorted_density[(enclosed < mass).sum()].item() for mass in MASSES)
        drawn = samples[samples["target"] == name]
        axes.plot(drawn["z_1"], drawn["z_2"], ".", color=MIDDLE, markersize=2.2, alpha=0.5, zorder=1)
        axes.contour(axis_1, axis_2, density.T, levels, colors=DARK, linewidths=0.9, zorder=2)
        axes.set(xlim=window[:2], ylim=window[2:], xlabel="$z_1$", ylabel="$z_2$", title=title(name))
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def draw_kl(rows: pd.DataFrame, gaussian: dict[str, float], path: Path) -> None:
    """KL(q || p) against steps, a line for each seed, and the best Gaussian's."""
    figure, axes = _over_steps("KL(q || p), nats")
    for name, (colour, marker) in STYLES.items():
        for number, (_, run) in enumerate(rows[rows["target"] == name].groupby("seed")):
            label = f"{title(name)} (dashed: best Gaussian)" if number == 0 else None
            line = {"color": colour, "marker": marker, "markersize": 3, "linewidth": 1, "label": label}
            axes.errorbar(run["step"], run["kl"], run["kl_se"], **line)
        axes.axhline(gaussian[name], color=colour, linestyle="--", linewidth=1)
        axes.plot(rows["step"].min(), gaussian[name], marker, color=colour, markeredgecolor="k")
    axes.set_yscale("log")
    _finish(figure, axes, path)


def draw_acceptance(rows: pd.DataFrame, target: float, path: Path) -> None:
    """The chains' mean acceptance between reports against steps, a line for each seed."""
    figure, axes = _over_steps("mean acceptance of HMC")
    for name, (colour, marker) in STYLES.items():
        for number, (_, run) in enumerate(rows[rows["target"] == name].groupby("seed")):
            label = title(name) if number == 0 else None
            line = {"color": colour, "marker": marker, "markersize": 3, "linewidth": 1, "label": label}
            axes.plot(run["step"], run["acceptance"], **line)
    axes.axhline(target, color="0.3", linestyle="--", linewidth=1, label=f"target {target:g}")
    _finish(figure, axes, path)


def _over_steps(quantity: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6.8, 3.9), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel("iteration")
    axes.set_ylabel(quantity)
    return figure, axes


def _finish(figure: Figure, axes: Axes, path: Path) -> None:
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.grid(color="0.9", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, fontsize=8)
    figure.savefig(path)
