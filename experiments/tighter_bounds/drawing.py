"""The study's picture: each objective's two bounds less the IWAE's, and the difference of the two."""

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from evidence.display import style
from evidence.report.compare import seeds
from experiments.iwae_table1.paper import PASSES, SAMPLES
from experiments.tighter_bounds.claims import NAMES, K

LOOK = style.look(style.DARK, "o", linestyle="none", capsize=3)
HOLLOW = style.look(style.MIDDLE, "o", linestyle="none", markerfacecolor="white", capsize=3)
TITLES = {
    "nll_group": f"-L_{K} less the IWAE's\n(nats per image, lower is better)",
    "nll": f"-L_{SAMPLES} less the IWAE's\n(nats per image, lower is better)",
    "gap": f"L_{SAMPLES} - L_{K}\n(nats per image)",
}


def draw(results: pd.DataFrame, path: Path) -> None:
    """Ours filled, the published figures hollow; an objective a place."""
    figure, (panels,) = style.panels(1, len(TITLES), (11.0, 4.0))
    for axes, (name, title) in zip(panels, TITLES.items(), strict=True):
        _points(axes, results, name, -0.1, "trained here", LOOK)
        _points(axes, results, f"published_{name}", 0.1, f"published, {PASSES} passes", HOLLOW)
        axes.set_ylabel(title)
        axes.axhline(0, color="0.4", linewidth=0.8)
        names = [NAMES[name] for name in results["objective"]]
        axes.set_xticks(range(len(names)), names, rotation=30, ha="right", rotation_mode="anchor")
    trained = " or ".join(results["budget"].unique())
    panels[1].set_title(f"{trained}, {seeds(*results['seeds'])}", size=10)
    style.legend_below(figure, panels[0], 2)
    style.finish(*panels, grid="y")
    style.save(figure, path)


def _points(
    axes: Axes, results: pd.DataFrame, name: str, shift: float, label: str, look: dict[str, Any]
) -> None:
    values = results[name]
    if not name.endswith("gap"):
        values = values - results.loc[results["objective"] == "iwae", name].mean()
    places = [place + shift for place in range(len(results))]
    deviations = results.get(f"{name}_sd", 0 * values)
    axes.errorbar(places, values, deviations.fillna(0), label=label, **look)
