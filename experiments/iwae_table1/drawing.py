"""NLL and active units of Tables 1 and 3 against k, with the published points drawn in."""

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from evidence.display import style
from experiments.iwae_table1.paper import DATA, OBJECTIVES

LOOKS = {"vae": style.look(style.MIDDLE, "s"), "iwae": style.look(style.DARK, "o")}
LINES = {"vae": "--", "iwae": "-"}


def layers_in_words(layers: int) -> str:
    """Such as "2 stochastic layers"."""
    return f"{layers} stochastic layer{'s' * (layers > 1)}"


def draw(results: pd.DataFrame, path: Path) -> None:
    """Above the NLL, below the active units of all layers; a column for each data set and number of layers."""
    kinds = list(results.groupby(["data", "stochastic_layers"], sort=False))
    figure, panels = style.panels(2, len(kinds), (max(6.0, 4.2 * len(kinds)), 6.4), sharex=True)
    for (above, below), ((data, layers), group) in zip(panels.T, kinds, strict=True):
        trained = " or ".join(group["budget"].unique())
        above.set_title(f"{DATA.get(str(data), data)}, {layers_in_words(layers)}\n{trained}", size=10)
        published = group.filter(like="published_active_units_").sum(axis=1, min_count=1)
        _curves(above, group, "nll", group["published_nll"])
        _curves(below, group, "active_units", published)
        below.set_xlabel("samples per image, k")
    panels[0, 0].set_ylabel("test NLL (nats per image)")
    panels[1, 0].set_ylabel("active units")
    style.legend_below(figure, panels[0, 0], 4)
    figure.savefig(path)


def _curves(axes: Axes, group: pd.DataFrame, name: str, published: "pd.Series[float]") -> None:
    for objective, rows in group.groupby("objective", sort=False):
        label, look = OBJECTIVES[objective], LOOKS[objective]
        rows = rows.sort_values("k")
        k, deviation = rows["k"].astype(int), rows[f"{name}_sd"].fillna(0)
        axes.errorbar(k, rows[name], deviation, linestyle=LINES[objective], capsize=3, label=label, **look)
        hollow = style.look(**look, markerfacecolor="white", linestyle=":", linewidth=1)
        axes.plot(k, published.loc[rows.index], label=f"{label}, published", **hollow)
    style.log_ticks(axes, group["k"])
    style.finish(axes)
