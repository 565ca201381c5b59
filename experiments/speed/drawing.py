"""The two figures: who needs how long for a step, and how a step grows."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator

from evidence.display import style
from evidence.display.style import DARK, LIGHT, MIDDLE
from experiments.speed.growth import Measured
from experiments.speed.records import Row
from experiments.speed.setting import BATCH, NUM_EXACT
from experiments.speed.steps import CONTESTANTS

SWEEPS = {
    "k": "samples per image, k",
    "batch": "images per batch",
    "latent": "latent units per layer",
    "layers": "stochastic layers",
}
STYLES = {
    "all": ("o", "-", DARK, "all samples backward"),
    "top": ("s", "--", MIDDLE, f"the {NUM_EXACT} largest weights and one more"),
}


def draw_steps(rows: Sequence[Row], machine: str, path: Path) -> None:
    """Bars: the median, with a line from the lowest to the highest and a mark at the floor."""
    steps = [row for row in rows if row.section == "Training step" and row.unit == "ms"]
    cases = list(dict.fromkeys(row.case for row in steps))
    figure, panels = style.panels(1, len(cases), (14, 4.2))
    present = {row.contestant for row in steps}
    names = [contestant.name for contestant in CONTESTANTS if contestant.name in present]
    for case, axes in zip(cases, panels[0], strict=True):
        _bars(axes, [row for row in steps if row.case == case], names)
        axes.set_title(case)
        axes.set_xlabel("milliseconds a step")
        style.finish(axes, grid="x")
    panels[0][0].set_yticks(range(len(names)), names)
    for axes in panels[0][1:]:
        axes.set_yticks(range(len(names)), [])
    style.legend_below(figure, panels[0][0], 2)
    figure.suptitle(f"One training step of IWAE, batch {BATCH}: {machine}")
    style.save(figure, path)


def draw_growth(points: Sequence[Measured], machine: str, path: Path) -> None:
    """Time above, memory below, a column for what varies; both axes logarithmic, so that a slope is a power."""
    figure, panels = style.panels(2, len(SWEEPS), (14, 6.4), sharey="row")
    for column, (sweep, label) in enumerate(SWEEPS.items()):
        above, below = panels[0][column], panels[1][column]
        for backward, (marker, line, colour, name) in STYLES.items():
            here = [point for point in points if point.sweep == sweep and point.backward == backward]
            values = [point.value for point in here]
            look = {"marker": marker, "linestyle": line, "color": colour, "label": name}
            medians = [point.median_ms for point in here]
            errors = [
                [point.median_ms - point.lowest_ms for point in here],
                [point.highest_ms - point.median_ms for point in here],
            ]
            above.errorbar(values, medians, errors, capsize=3, **look)
            below.plot(values, [point.added_mib for point in here], **look)
        for axes in (above, below):
            axes.set_xscale("log")
            axes.set_yscale("log")
            axes.set_xticks(values, [str(value) for value in values])
            axes.minorticks_off()
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter("{x:g}")
            style.finish(axes)
        below.set_xlabel(label)
    panels[0][0].set_ylabel("milliseconds a step")
    panels[1][0].set_ylabel("memory added at the peak, MiB")
    style.legend_below(figure, panels[0][0], 2)
    figure.suptitle(f"Growth of a training step of IWAE, k = 50, batch {BATCH} where not varied: {machine}")
    style.save(figure, path)


def _bars(axes: Axes, rows: Sequence[Row], names: Sequence[str]) -> None:
    for row in rows:
        place = names.index(row.contestant)
        colour = DARK if row.contestant.startswith("evidence") else LIGHT
        error = [[row.median - row.lowest], [row.highest - row.median]]
        axes.barh(place, row.median, xerr=error, color=colour, capsize=3, ecolor="black", height=0.7)
        axes.annotate(
            f"{row.median:.3g}", (row.highest, place), (4, 0), textcoords="offset points", va="center"
        )
    floors = [(row.median / row.over_floor, names.index(row.contestant)) for row in rows if row.over_floor]
    mark: dict[str, Any] = {"color": MIDDLE, "markersize": 16, "markeredgewidth": 3}
    axes.plot(*zip(*floors, strict=True), "|", label="floor: its matrix products alone", **mark)
    axes.set_xlim(0, 1.15 * max(row.highest for row in rows))
    axes.set_ylim(len(names) - 0.4, -0.6)
