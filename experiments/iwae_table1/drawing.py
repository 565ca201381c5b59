"""NLL and active units of Tables 1 and 3 against k, with the published points drawn in."""

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from evidence.display.plots import DARK, DPI, MIDDLE
from experiments.iwae_table1.paper import DATA

LOOKS = {"vae": ("VAE", MIDDLE, "s", "--"), "iwae": ("IWAE", DARK, "o", "-")}


def draw(results: pd.DataFrame, path: Path) -> None:
    """Above the NLL, below the active units of all layers; a column for each data set and number of layers."""
    kinds = list(results.groupby(["data", "stochastic_layers"], sort=False))
    figure = Figure(figsize=(max(6.0, 4.2 * len(kinds)), 6.4), dpi=DPI, layout="constrained")
    panels = figure.subplots(2, len(kinds), squeeze=False, sharex=True)
    for column, ((data, layers), group) in enumerate(kinds):
        above, below = panels[0][column], panels[1][column]
        trained = " or ".join(group["budget"].unique())
        above.set_title(
            f"{DATA.get(str(data), data)}, {layers} stochastic layer{'s' * (layers > 1)}\n{trained}", size=10
        )
        published = group.filter(like="published_active_units_").sum(axis=1, min_count=1)
        _curves(above, group, "nll", group["published_nll"])
        _curves(below, group, "active_units", published)
        below.set_xlabel("samples per image, k")
    panels[0][0].set_ylabel("test NLL (nats per image)")
    panels[1][0].set_ylabel("active units")
    figure.legend(
        *panels[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False
    )
    figure.savefig(path)


def _curves(axes: Axes, group: pd.DataFrame, name: str, published: "pd.Series[float]") -> None:
    for objective, rows in group.groupby("objective", sort=False):
        label, colour, marker, line = LOOKS[str(objective)]
        rows = rows.sort_values("k")
        k = rows["k"].astype(int)
        axes.errorbar(
            k,
            rows[name],
            rows[f"{name}_sd"].fillna(0),
            color=colour,
            marker=marker,
            linestyle=line,
            capsize=3,
            label=label,
        )
        theirs = published.loc[rows.index]
        hollow = {"markerfacecolor": "white", "linestyle": ":", "linewidth": 1}
        axes.plot(k, theirs, color=colour, marker=marker, label=f"{label}, published", **hollow)
    axes.set_xscale("log")
    ticks = sorted(set(group["k"].astype(int)))
    axes.set_xticks(ticks, [str(k) for k in ticks])
    axes.minorticks_off()
    axes.grid(color="0.9", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
