"""The pictures of the study: q over its target, and how the fit went."""

from pathlib import Path

import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter

from evidence.display import style
from evidence.display.style import DARK, MIDDLE, THIRD
from experiments.uivi_toys.targets import targets

WINDOWS = {"banana": (-3.5, 3.5, -9.5, 2.0), "multimodal": (-5, 5, -4, 4), "x_shaped": (-4.5, 4.5, -4.5, 4.5)}
STYLES = dict(zip(WINDOWS, [(DARK, "o"), (MIDDLE, "s"), (THIRD, "^")], strict=True))
MASSES = (0.1, 0.3, 0.5, 0.7, 0.9, 0.99)  # that the contours enclose
GRID = 300
SIZE = 6.8, 3.9  # inches


def title(name: str) -> str:
    """Of a target, to be read."""
    return name.replace("_", "-")


def draw_samples(samples: pd.DataFrame, path: Path) -> None:
    """Samples of q, columns target, z_1 and z_2, over the contours of p that enclose 10 to 99% of its mass."""
    figure, (panels,) = style.panels(1, len(WINDOWS), (10.0, 3.7))
    for axes, (name, window) in zip(panels, WINDOWS.items(), strict=True):
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
    style.save(figure, path)


def draw_kl(rows: pd.DataFrame, gaussian: dict[str, float], path: Path) -> None:
    """KL(q || p) against steps, a line for each seed, and the best Gaussian's."""
    figure, ((axes,),) = style.panels(1, 1, SIZE)
    for name, (colour, marker) in STYLES.items():
        _lines(axes, rows, name, "kl", "kl_se", f"{title(name)} (dashed: best Gaussian)")
        axes.axhline(gaussian[name], color=colour, linestyle="--", linewidth=1)
        axes.plot(rows["step"].min(), gaussian[name], marker, color=colour, markeredgecolor="k")
    axes.set_yscale("log")
    _finish(axes, "KL(q || p), nats")
    style.save(figure, path)


def draw_acceptance(rows: pd.DataFrame, target: float, path: Path) -> None:
    """The chains' mean acceptance between reports against steps, a line for each seed."""
    figure, ((axes,),) = style.panels(1, 1, SIZE)
    for name in STYLES:
        _lines(axes, rows, name, "acceptance", None, title(name))
    axes.axhline(target, color="0.3", linestyle="--", linewidth=1, label=f"target {target:g}")
    _finish(axes, "mean acceptance of HMC")
    style.save(figure, path)


def _lines(axes: Axes, rows: pd.DataFrame, name: str, values: str, errors: str | None, label: str) -> None:
    line = style.look(*STYLES[name], markersize=3, linewidth=1)
    for number, (_, run) in enumerate(rows[rows["target"] == name].groupby("seed")):
        line["label"] = None if number else label
        if errors is None:
            axes.plot(run["step"], run[values], **line)
        else:
            axes.errorbar(run["step"], run[values], run[errors], **line)


def _finish(axes: Axes, quantity: str) -> None:
    axes.set_xlabel("iteration")
    axes.set_ylabel(quantity)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    style.finish(axes)
    axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, fontsize=8)
