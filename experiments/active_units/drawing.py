"""Activities, their number against k, and what the removal of the inactive units changes."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from evidence.display.plots import BINS_PER_DECADE, DARK, DPI, FLOOR, LIGHT, MIDDLE
from evidence.evaluation import ACTIVE_THRESHOLD
from experiments.active_units.reading import NATS
from experiments.iwae_table1 import cells
from experiments.iwae_table1.paper import KS


def histograms(results: pd.DataFrame, activities: Mapping[tuple[str, int], pd.DataFrame], path: Path) -> None:
    """A panel for each cell: a row of them for the VAE and one for the IWAE, k from left to right."""
    objectives = [name for name in ("vae", "iwae") if name in set(results["objective"])]
    figure = Figure(figsize=(9.6, 0.6 + 2.1 * len(objectives)), dpi=DPI, layout="constrained")
    panels = figure.subplots(len(objectives), len(KS), sharex=True, sharey=True, squeeze=False)
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
            axes.hist(
                [units[is_active], units[~is_active]], edges, stacked=True, color=[DARK, LIGHT], edgecolor="w"
            )
            axes.set_title(
                f"{cells.label(objective, k)}: {is_active.sum()} of {len(units)} active", fontsize=9
            )
        row[0].set_ylabel("latent units")
    panels[0, 0].legend(frameon=False, fontsize=8, loc="upper left")
    for axes in panels[-1]:
        names = [f"$10^{{{power}}}$" if power % 2 == 0 else "" for power in decades]
        axes.set_xticks([10.0**power for power in decades], [f"≤ {names[0]}", *names[1:]])
        axes.set_xlabel("activity $A_u$ = Var$_x$(E[$z_u$ | x])")
    figure.savefig(path)


def units(results: pd.DataFrame, path: Path) -> None:
    """Active units against k, ours and the published ones."""
    figure = Figure(figsize=(5.6, 3.8), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    for objective, colour, marker in ("vae", MIDDLE, "s"), ("iwae", DARK, "o"):
        rows = results[results["objective"] == objective]
        style = {"color": colour, "marker": marker, "linewidth": 1.3}
        if rows.empty:
            continue
        label = f"{objective.upper()}, {' or '.join(rows['training'].unique())}"
        axes.errorbar(
            rows["k"], rows["active_mean"], rows["active_sd"].fillna(0), capsize=3, label=label, **style
        )
        published = rows["published_active_units"]
        label = f"{objective.upper()}, published"
        axes.plot(rows["k"], published, markerfacecolor="w", linestyle=":", label=label, **style)
    axes.set_xscale("log")
    axes.set_xticks(KS, [str(k) for k in KS])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.set_xlabel("k, samples in training")
    axes.set_ylabel("active units of 50")
    _finish(axes)
    axes.legend(frameon=False, ncols=2, fontsize=8)
    figure.savefig(path)


def changes(results: pd.DataFrame, path: Path) -> None:
    """NLL without the inactive units less that of the whole model."""
    figure = Figure(figsize=(5.6, 3.2), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.axhspan(-NATS, NATS, color=LIGHT, alpha=0.45, linewidth=0, label=f"within {NATS} nats")
    axes.axhline(0, color="0.4", linewidth=0.8)
    names = [cells.label(row["objective"], row["k"]) for _, row in results.iterrows()]
    removed = [f"{row['units'] - row['active_units']} removed" for _, row in results.iterrows()]
    for objective, colour, marker in ("vae", MIDDLE, "s"), ("iwae", DARK, "o"):
        rows = results[results["objective"] == objective]
        if rows.empty:
            continue
        places = [names.index(cells.label(objective, k)) for k in rows["k"]]
        style = {"color": colour, "marker": marker, "linestyle": "", "capsize": 3}
        axes.errorbar(places, rows["change"], 2 * rows["change_se"], label=objective.upper(), **style)
    labels = [
        f"{name.replace(' k', chr(10) + 'k')}\n{count}" for name, count in zip(names, removed, strict=True)
    ]
    axes.set_xticks(range(len(names)), labels, fontsize=8)
    axes.set_ylabel("change of the NLL\n(nats per image)")
    _finish(axes)
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(path)


def _finish(axes: Axes) -> None:
    axes.grid(axis="y", color="0.9", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
