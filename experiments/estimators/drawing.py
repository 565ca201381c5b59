"""The study's pictures: NLL by decoder passes, NLL less the IWAE's, and other metrics over training."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from evidence.display import style
from evidence.report.compare import seeds
from experiments.estimators.cells import KS, NAMES, PASSES, Cells

LOOKS = dict(zip(NAMES, style.looks(len(NAMES)), strict=True))
BY_K = dict(zip(KS, style.looks(len(KS)), strict=True))
TICKS = [digit * 10**power for power in range(6) for digit in (1, 5)]  # of decoder passes
METRICS = {
    "kl": "KL from the prior (nats)",
    "effective_sample_size": "effective sample size",
    "snr_encoder": "encoder's gradient\n|E g| / sqrt(tr Var g)",
    "snr_decoder": "decoder's gradient\n|E g| / sqrt(tr Var g)",
}


def draw_nll(results: pd.DataFrame, path: Path) -> None:
    """A panel for each estimator and a line for each k, against decoder passes."""
    names = [name for name in NAMES if name in set(results["objective"])]
    size = (max(5.0, 2.6 * len(names)), 3.8)
    figure, (panels,) = style.panels(1, len(names), size, sharex=True, sharey=True)
    costs = results["passes"] * results["k"]
    for axes, name in zip(panels, names, strict=True):
        group = results[results["objective"] == name]
        for k, rows in group.groupby("k"):
            _line(axes, rows["passes"] * k, rows, "nll", f"k = {k}", BY_K[k])
        style.log_ticks(axes, [tick for tick in TICKS if costs.min() <= tick <= costs.max()])
        axes.set_title(NAMES[name], size=10)
        axes.set_xlabel("decoder passes an image")
    panels[0].set_ylabel("test NLL\n(nats per image, lower is better)")
    _finish(figure, panels)
    style.save(figure, path)


def draw_differences(results: pd.DataFrame, cells: Cells, path: Path) -> None:
    """A panel for each k and a line for each estimator, against passes: means of differences paired by seed."""
    iwae = results[results["objective"] == "iwae"].set_index(["k", "passes"])
    figure, (panels,) = _by_k(results)
    for axes, (_, group) in zip(panels, results.groupby("k"), strict=True):
        base = iwae.reindex(pd.MultiIndex.from_frame(group[["k", "passes"]])).set_index(group.index)
        named = group[["objective", "k", "passes"]].itertuples(index=False, name=None)
        paired = [cells.less_iwae(cell) for cell in named]
        gaps = group.assign(less=[each.mean() for each in paired], less_sd=[each.std() for each in paired])
        published = group["published_nll"] - base["published_nll"]
        for name, rows in gaps.groupby("objective", sort=False):
            _line(axes, rows["passes"], rows, "less", NAMES[name], LOOKS[name])
            hollow = {"markerfacecolor": "white", "linestyle": "none"}
            axes.plot(PASSES, published[rows.index].mean(), **LOOKS[name], **hollow)
        axes.axhline(0, color="0.4", linewidth=0.8)
        *_, last = ticks = style.log_ticks(axes, [*group["passes"], PASSES])
        axes.set_xticks(ticks, [*map(str, ticks[:-1]), f"{last}\n(published)"])
    panels[0].set_ylabel("test NLL less the IWAE's\n(nats per image, lower is better)")
    _finish(figure, panels)
    style.save(figure, path)


def draw_training(results: pd.DataFrame, path: Path) -> None:
    """A row for each metric that was measured and a panel for each k, against passes."""
    metrics = {name: label for name, label in METRICS.items() if name in results}
    figure, rows = _by_k(results, len(metrics))
    for panels, (name, label) in zip(rows, metrics.items(), strict=True):
        for axes, (_, group) in zip(panels, results.groupby("k"), strict=True):
            for objective, of in group.groupby("objective", sort=False):
                _line(axes, of["passes"], of, name, NAMES[objective], LOOKS[objective])
            style.log_ticks(axes, group["passes"])
        panels[0].set_ylabel(label)
    _finish(figure, rows.flat)
    style.save(figure, path)


def _by_k(results: pd.DataFrame, rows: int = 1) -> Any:
    """A figure with a column for each k that there is, its title above; and its axes [rows, columns]."""
    trained = results.groupby("k")
    figure, panels = style.panels(
        rows, len(trained), (max(6.0, 3.6 * len(trained)), 1.2 + 2.5 * rows), sharex="col", sharey="row"
    )
    for axes, below, (k, group) in zip(panels[0], panels[-1], trained, strict=True):
        axes.set_title(f"k = {k}, {seeds(*group['seeds'])}", size=10)
        below.set_xlabel("passes over the training set")
    return figure, panels


def _line(
    axes: Axes, x: "pd.Series[float]", rows: pd.DataFrame, name: str, label: str, look: dict[str, Any]
) -> None:
    axes.errorbar(x, rows[name], rows[f"{name}_sd"].fillna(0), label=label, capsize=2, markersize=5, **look)


def _finish(figure: Figure, panels: Iterable[Axes]) -> None:
    every = [*panels]
    fullest = max(every, key=lambda axes: len(axes.get_legend_handles_labels()[1]))
    style.legend_below(figure, fullest, len(NAMES), fontsize=9)
    style.finish(*every)
