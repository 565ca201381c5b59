"""Draws any experiment's cells: the test NLL of each, and the validation NLL against passes."""

from pathlib import Path

import numpy as np
import pandas as pd

from evidence import project, tracking
from evidence.display import style
from evidence.report.cells import Cells, label
from evidence.report.compare import length
from evidence.report.study import Picture

MOST_CELLS, MOST_CURVES = 40, 8


def draw(found: Cells, folder: Path) -> tuple[list[Picture], list[str]]:
    """Draw cells.png and curves.png into the folder, each with a PDF beside it.

    Return the pictures that could be drawn, and notes on the others. A cell without a finite NLL is left out.
    """
    order = found.table["nll"].replace([np.inf, -np.inf], np.nan).dropna().sort_values().index
    if order.empty:
        return [], ["No cell has a finite NLL, so nothing is drawn."]
    pictures, notes = [_cells(found, order[:MOST_CELLS], folder / "cells.png")], []
    if curves := _curves(found, order[:MOST_CURVES], folder / "curves.png"):
        pictures.append(curves)
    else:
        notes.append("No curves are drawn: no run was validated twice.")
    return pictures, notes


def _cells(found: Cells, order: "pd.Index[int]", path: Path) -> Picture:
    """The NLL of each cell as a row, the lowest at the top."""
    figure, ((axes,),) = style.panels(1, 1, (6.4, 1.1 + 0.3 * len(order)))
    for place, cell in enumerate(order):
        row, runs = found.table.loc[cell], found.runs[cell]
        spread = row["nll_se"] if pd.isna(row["nll_sd"]) else row["nll_sd"]
        axes.errorbar(row["nll"], place, xerr=spread, **style.look(style.DARK, "o", capsize=3, zorder=2))
        if len(runs) > 1:
            single = axes.plot(
                runs["test/nll"], [place] * len(runs), "|", color=style.MIDDLE, markersize=9, zorder=3
            )
            single[0].set_label("_")
    axes.set_yticks(range(len(order)), [label(found.table.loc[cell], found.columns) for cell in order])
    axes.set_ylim(len(order) - 0.5, -0.5)
    axes.set_xlabel("test NLL, nats per image (lower is better)")
    style.finish(axes, grid="x")
    style.save(figure, path)
    left = f" The {len(order)} lowest of {len(found.table)} cells." if len(order) < len(found.table) else ""
    return Picture(
        path.name,
        "Test NLL of each cell, the lowest at the top. Points are means over seeds, vertical strokes single seeds. Bars"
        " are one standard deviation over seeds either way, or where there is one seed one standard error over test"
        f" images.{left}",
    )


def _curves(found: Cells, order: "pd.Index[int]", path: Path) -> Picture | None:
    """The validation NLL of each cell against passes, or against steps where a length is given in steps."""
    in_passes = found.table["passes"].notna().all()
    curves = {cell: _history(found.runs[cell], bool(in_passes)) for cell in order}
    if all(len(curve) < 2 for curve in curves.values()):
        return None
    figure, ((axes,),) = style.panels(1, 1, (6.4, 4.2))
    for look, (cell, curve) in zip(style.looks(len(order)), curves.items(), strict=True):
        mean, spread = curve.mean(axis=1), curve.std(axis=1)
        axes.plot(mean.index, mean, **look, markersize=4, label=label(found.table.loc[cell], found.columns))
        axes.fill_between(
            mean.index, mean - spread, mean + spread, color=look["color"], alpha=0.15, linewidth=0
        )
    axes.set_ylim(_visible([curve.mean(axis=1) for curve in curves.values()]))
    axes.set_xlim(left=0)
    axes.set_xlabel("passes over the training images" if in_passes else "training steps")
    axes.set_ylabel("validation NLL, nats per image")
    style.finish(axes)
    style.legend_below(figure, axes, 2)
    style.save(figure, path)
    left = f" The {len(order)} cells with the lowest test NLL." if len(order) < len(found.table) else ""
    return Picture(
        path.name,
        "Validation NLL over training (`valid/nll`): means over seeds. Bands are one standard"
        " deviation over seeds either way; a cell of one seed has none. The vertical axis leaves out the first tenth"
        f" of training.{left}",
    )


def _history(runs: pd.DataFrame, in_passes: bool) -> pd.DataFrame:
    """The validation NLL of like runs: a column for each run, by passes or steps. Only what all runs have."""
    columns = {}
    for _, run in runs.iterrows():
        passes, _ = length(run["stages"])
        unit = int(run["steps"]) / passes if in_passes and passes else 1
        history = tracking.history(project.root(), run["run_id"], "valid/nll")
        columns[run["run"]] = pd.Series({step / unit: value for step, value in history}, dtype=float)
    return pd.DataFrame(columns).dropna().sort_index()


def _visible(means: list["pd.Series[float]"]) -> tuple[float, float]:
    """The ends of the vertical axis. The first tenth of training is left out, where it is far above the rest."""
    end = max(mean.index.max() for mean in means if len(mean))
    late = pd.concat([mean[mean.index >= end / 10] for mean in means])
    margin = 0.05 * (late.max() - late.min()) + 0.02
    return late.min() - margin, late.max() + margin
