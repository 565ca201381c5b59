"""Activities, their number against k, and what the removal of the inactive units changes."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from evidence.display import style
from evidence.display.plots import BINS_PER_DECADE, FLOOR
from evidence.display.style import DARK, LIGHT, MIDDLE
from evidence.evaluation import ACTIVE_THRESHOLD
from experiments.active_units.reading import NATS
from experiments.iwae_table1 import cells
from experiments.iwae_table1.drawing import LOOKS
from experiments.iwae_table1.paper import KS, OBJECTIVES


def histograms(results: pd.DataFrame, activities: Mapping[tuple[str, int], pd.DataFrame], path: Path) -> None:
    """A panel for each cell: a row of them for the VAE and one for the IWAE, k from left to right."""
    objectives = [name for name in LOOKS if name in set(results["objective"])]
    size = 9.6, 0.6 + 2.1 * len(objectives)
    figure, panels = style.panels(len(objectives), len(KS), size, sharex=True, sharey=True)
    top = max(1.0, *(table["activity"].max() for table in activities.values()))
    decades = range(round(np.log10(FLOOR)), int(np.ceil(np.log10(top))) + 1)
    edges = np.logspace(decades[0], decades[-1], BINS_PER_DECADE * (len(decades) - 1) + 1)
    for row, objective in zip(panels, objectives, strict=True):
        for axes, k in zip(row, KS, strict=True):
            label = f"threshold {ACTIVE_THRESHOLD:g}"
            axes.axvline(ACTIVE_THRESHOLD, color=MIDDLE, linestyle="--", linewidth=1.4, label=label)
            axes.set_xscale("log")
            axes.spines[["top", "right"]].set_visible(False)
            if (objective, k) not in activities:
                axes.set_title(f"{cells.label(objective, k)}: not measured", fontsize=9)
                continue
            units = np.maximum(activities[objective, k]["activity"], FLOOR)
            is_active = units > ACTIVE_THRESHOLD
            groups = [units[is_active], units[~is_active]]
            axes.hist(groups, edges, stacked=True, color=[DARK, LIGHT], edgecolor="w")
            counts = f"{is_active.sum()} of {len(units)} active"
            axes.set_title(f"{cells.label(objective, k)}: {counts}", fontsize=9)
        row[0].set_ylabel("latent units")
    panels[0, 0].legend(frameon=False, fontsize=8, loc="upper left")
    for axes in panels[-1]:
        names = [f"$10^{{{power}}}$" if power % 2 == 0 else "" for power in decades]
        axes.set_xticks([10.0**power for power in decades], [f"≤ {names[0]}", *names[1:]])
        axes.set_xlabel("activity $A_u$ = Cov$_x$(E[$z_u$ | x])")
    style.save(figure, path)


def units(results: pd.DataFrame, path: Path) -> None:
    """Active units against k, ours and the published ones."""
    figure, ((axes,),) = style.panels(1, 1, (5.6, 3.8))
    for objective, look in LOOKS.items():
        rows = results[results["objective"] == objective]
        if rows.empty:
            continue
        line = style.look(**look, linewidth=1.3)
        name, deviation = OBJECTIVES[objective], rows["active_sd"].fillna(0)
        label = f"{name}, {' or '.join(rows['training'].unique())}"
        axes.errorbar(rows["k"], rows["active_mean"], deviation, capsize=3, label=label, **line)
        hollow = style.look(**line, markerfacecolor="w", linestyle=":", label=f"{name}, published")
        axes.plot(rows["k"], rows["published_active_units"], **hollow)
    style.log_ticks(axes, KS)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("k, samples in training")
    axes.set_ylabel("active units of 50")
    style.finish(axes, grid="y")
    axes.legend(frameon=False, ncols=2, fontsize=8)
    style.save(figure, path)


def changes(results: pd.DataFrame, path: Path) -> None:
    """NLL without the inactive units less that of the whole model."""
    figure, ((axes,),) = style.panels(1, 1, (5.6, 3.2))
    axes.axhspan(-NATS, NATS, color=LIGHT, alpha=0.45, linewidth=0, label=f"within {NATS} nats")
    axes.axhline(0, color="0.4", linewidth=0.8)
    results = results.reset_index(drop=True)
    for objective, look in LOOKS.items():
        rows = results[results["objective"] == objective]
        if len(rows):
            points = style.look(**look, linestyle="", capsize=3, label=OBJECTIVES[objective])
            axes.errorbar(rows.index, rows["change"], 2 * rows["change_se"], **points)
    labels = [
        f"{OBJECTIVES[row['objective']]}\nk = {row['k']}\n{row['units'] - row['active_units']} removed"
        for _, row in results.iterrows()
    ]
    axes.set_xticks(range(len(labels)), labels, fontsize=8)
    axes.set_ylabel("change of the NLL\n(nats per image)")
    style.finish(axes, grid="y")
    axes.legend(frameon=False, fontsize=8)
    style.save(figure, path)
