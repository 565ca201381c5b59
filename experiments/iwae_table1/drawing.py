"""What k changes in the NLL of Tables 1 and 3, and active units, with the published points drawn in.

Short trainings end nats above the published figures. So the NLL is drawn as a difference to the cell of k = 1.
"""

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from evidence.display import style
from evidence.report.compare import seeds
from experiments.iwae_table1.paper import DATA, OBJECTIVES

LOOKS = {"vae": style.look(style.MIDDLE, "s"), "iwae": style.look(style.DARK, "o")}
LINES = {"vae": "--", "iwae": "-"}
SHIFTS = {"vae": 0.96, "iwae": 1.04}  # factors of k, so that no bar covers another


def layers_in_words(layers: int) -> str:
    """Such as "2 stochastic layers"."""
    return f"{layers} stochastic layer{'s' * (layers > 1)}"


def draw(results: pd.DataFrame, path: Path) -> None:
    """Above the NLL less that of k = 1, below the active units; a column for each data set and number of layers."""
    kinds = list(results.groupby(["data", "stochastic_layers"], sort=False))
    figure, panels = style.panels(2, len(kinds), (max(6.0, 4.2 * len(kinds)), 6.4), sharex=True)
    for (above, below), ((data, layers), group) in zip(panels.T, kinds, strict=True):
        trained = " or ".join(group["budget"].unique())
        title = f"{DATA.get(str(data), data)}, {layers_in_words(layers)}\n{trained}, {seeds(*group['seeds'])}"
        above.set_title(title, size=10)
        units = group.filter(like="published_active_units_").sum(axis=1, min_count=1)
        ours, published = (_less_that_of_one(group, name) for name in ("nll", "published_nll"))
        _curves(above, group, ours, group["nll_sd"], published)
        _curves(below, group, group["active_units"], group["active_units_sd"], units)
        above.axhline(0, color="0.4", linewidth=0.8)
        below.set_xlabel("samples per image, k")
    panels[0, 0].set_ylabel("test NLL less that of k = 1\n(nats per image, lower is better)")
    panels[1, 0].set_ylabel("active units")
    style.legend_below(figure, panels[0, 0], 4)
    style.save(figure, path)


def _less_that_of_one(group: pd.DataFrame, name: str) -> "pd.Series[float]":
    """Each figure less its objective's at k = 1, which for an IWAE without such a cell is the VAE's: the same bound."""
    ones = group[group["k"] == 1].set_index("objective")[name]
    return group[name] - group["objective"].map(lambda objective: ones.get(objective, ones.get("vae")))


def _curves(
    axes: Axes,
    group: pd.DataFrame,
    ours: "pd.Series[float]",
    deviation: "pd.Series[float]",
    published: "pd.Series[float]",
) -> None:
    for objective, rows in group.groupby("objective", sort=False):
        label, look = OBJECTIVES[objective], LOOKS[objective]
        index = rows.sort_values("k").index
        k = SHIFTS[objective] * group["k"][index].astype(int)
        line = style.look(**look, linestyle=LINES[objective], capsize=3, label=label)
        axes.errorbar(k, ours[index], deviation[index].fillna(0), **line)
        hollow = style.look(**look, markerfacecolor="white", linestyle=":", linewidth=1)
        axes.plot(k, published[index], label=f"{label}, published", **hollow)
    style.log_ticks(axes, group["k"])
    style.finish(axes)
