"""Estimates of log p(x) beside each other, and where they part."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from evidence.display import style
from evidence.display.style import DARK, MIDDLE
from experiments.bounds_and_truth.measuring import SAMPLES

THRESHOLD = 0.7  # of k-hat, for 2,000 samples or more


def estimates(results: pd.DataFrame, path: Path) -> None:
    """A panel for each model, a row for each estimate."""
    models = list(dict.fromkeys(results["model"]))
    figure, (panels,) = style.panels(1, len(models), (3.9 * len(models), 2.8))
    for axes, name in zip(panels, models, strict=True):
        rows = results[results["model"] == name].iloc[::-1].reset_index(drop=True)
        look = style.look(DARK, "o", markersize=5, linewidth=0, elinewidth=1.2, capsize=3)
        axes.errorbar(rows["difference"], rows.index, xerr=2 * rows["difference_se"], **look)
        axes.axvline(0, color="0.2", linestyle="--", linewidth=1)
        axes.set_yticks(rows.index, rows["estimate"])
        axes.set_ylim(-0.5, len(rows) - 0.5)
        axes.locator_params(axis="x", nbins=5)
        axes.set_xlabel(f"less {rows['less'].iloc[0]} (nats per image)")
        axes.set_title(name, fontsize=10)
        style.finish(axes)
    style.save(figure, path)


def doubt(tables: Mapping[str, pd.DataFrame], path: Path) -> None:
    """A panel for each trained model, a point for each image."""
    figure, (panels,) = style.panels(1, len(tables), (3.9 * len(tables), 3.2))
    for axes, (name, rows) in zip(panels, tables.items(), strict=True):
        axes.plot(rows["khat"], rows["ais"] - rows["importance"], "o", color=MIDDLE, markersize=4, alpha=0.8)
        axes.axvline(THRESHOLD, color="0.2", linestyle="--", linewidth=1)
        axes.axhline(0, color="0.7", linewidth=1)
        axes.set_xlabel("k-hat of the importance weights")
        axes.set_ylabel(f"AIS less $L_{{{SAMPLES}}}$ (nats)")
        axes.set_title(name, fontsize=10)
        style.finish(axes)
    style.save(figure, path)
