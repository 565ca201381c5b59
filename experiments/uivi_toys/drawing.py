"""The pictures of the study: q over its target, and how the fits went."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter

from evidence.display import style
from evidence.display.style import DARK, MIDDLE, THIRD
from experiments.uivi_toys.methods import METHODS
from experiments.uivi_toys.targets import targets

WINDOWS = {"banana": (-3.5, 3.5, -9.5, 2.0), "multimodal": (-5, 5, -4, 4), "x_shaped": (-4.5, 4.5, -4.5, 4.5)}
STYLES = dict(zip(WINDOWS, [(DARK, "o"), (MIDDLE, "s"), (THIRD, "^")], strict=True))
LOOKS = dict(zip(METHODS, style.looks(len(METHODS)), strict=True))
MASSES = (0.1, 0.3, 0.5, 0.7, 0.9, 0.99)  # that the contours enclose
GRID = 300
HIGHEST = 10  # KL in the frame, of the best Gaussian's


def title(name: str) -> str:
    """Of a target, to be read."""
    return name.replace("_", "-")


def draw_samples(samples: pd.DataFrame, path: Path) -> None:
    """Samples of q, columns target, method, z_1 and z_2, over the contours of p.

    A row of panels for each target, a column for each method. The contours enclose 10 to 99% of p's mass.
    """
    shape = len(WINDOWS), len(METHODS)
    figure, panels = style.panels(*shape, (11.0, 8.0), sharex="row", sharey="row")
    for row, (name, window) in zip(panels, WINDOWS.items(), strict=True):
        axis_1, axis_2 = (torch.linspace(low, high, GRID) for low, high in (window[:2], window[2:]))
        points = torch.cartesian_prod(axis_1, axis_2).unflatten(0, (GRID, GRID))
        density = targets()[name].log_prob(points).exp()
        sorted_density = density.flatten().sort(descending=True).values
        enclosed = sorted_density.cumsum(0) / sorted_density.sum()
        levels = sorted(sorted_density[(enclosed < mass).sum()].item() for mass in MASSES)
        for axes, method in zip(row, METHODS, strict=True):
            drawn = samples[(samples["target"] == name) & (samples["method"] == method)]
            axes.plot(drawn["z_1"], drawn["z_2"], ".", color=MIDDLE, markersize=2, alpha=0.4, zorder=1)
            axes.contour(axis_1, axis_2, density.T, levels, colors=DARK, linewidths=0.8, zorder=2)
            axes.set(xlim=window[:2], ylim=window[2:])
            axes.spines[["top", "right"]].set_visible(False)
        row[0].set_ylabel(f"{title(name)}\n$z_2$")
    for axes, method in zip(panels[0], METHODS, strict=True):
        axes.set_title(METHODS[method].title)
    for axes in panels[-1]:
        axes.set_xlabel("$z_1$")
    style.save(figure, path)


def draw_kl(rows: pd.DataFrame, gaussian: Mapping[str, float], path: Path) -> None:
    """KL(q || p) against iterations, and against seconds of training. A line for each seed, and the best Gaussian's.

    A column of panels for each target. Those of fits that have diverged are above the frame.
    """
    figure, panels = style.panels(2, len(WINDOWS), (11.0, 6.6), sharey="col")
    for column, name in zip(panels.T, WINDOWS, strict=True):
        for axes, label in zip(column, ("iteration", "seconds of training"), strict=True):
            for method, line in LOOKS.items():
                for number, (_, run) in enumerate(_runs(rows, name, method)):
                    steps = run["step"].diff().fillna(run["step"])
                    across = (
                        run["step"] if label == "iteration" else (steps * run["seconds_per_step"]).cumsum()
                    )
                    more = {
                        "markersize": 3,
                        "linewidth": 1,
                        "label": None if number else METHODS[method].title,
                    }
                    axes.errorbar(across, run["kl"], run["kl_se"], **line | more)
            axes.axhline(gaussian[name], color="0.3", linestyle="--", linewidth=1, label="best Gaussian")
            axes.set_yscale("log")
            axes.set_ylim(top=min(axes.get_ylim()[1], HIGHEST * gaussian[name]))
            _finish(axes, label)
        column[0].set_title(title(name))
    for axes in panels[:, 0]:
        axes.set_ylabel("KL(q || p), nats")
    style.legend_below(figure, panels[0, 0], 1 + len(METHODS))
    style.save(figure, path)


def draw_acceptance(rows: pd.DataFrame, target: float, path: Path) -> None:
    """The chains' mean acceptance between reports against steps, a line for each seed."""
    figure, ((axes,),) = style.panels(1, 1, (6.8, 3.9))
    for name, look in STYLES.items():
        line = style.look(*look, markersize=3, linewidth=1)
        for number, (_, run) in enumerate(_runs(rows, name, "hmc")):
            axes.plot(run["step"], run["acceptance"], label=None if number else title(name), **line)
    axes.axhline(target, color="0.3", linestyle="--", linewidth=1, label=f"target {target:g}")
    axes.set_ylabel("mean acceptance of HMC")
    _finish(axes, "iteration")
    axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, fontsize=8)
    style.save(figure, path)


def _runs(rows: pd.DataFrame, name: str, method: str) -> "list[tuple[object, pd.DataFrame]]":
    """The rows of each seed."""
    return list(rows[(rows["target"] == name) & (rows["method"] == method)].groupby("seed"))


def _finish(axes: Axes, label: str) -> None:
    axes.set_xlabel(label)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    style.finish(axes)
