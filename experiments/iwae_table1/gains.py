"""What more samples gain at each length of training: why a short one favours the VAE with many samples.

A VAE with k samples averages k gradients, so it learns faster at first, whatever its bound reaches in the end.
"""

from pathlib import Path
from typing import NamedTuple

import pandas as pd
from matplotlib.axes import Axes

from evidence.display import style
from evidence.display.style import DARK, MIDDLE, THIRD
from evidence.report.selection import among, choose, pairs
from experiments.iwae_table1.drawing import layers_in_words
from experiments.iwae_table1.paper import KS, LAYERS, OBJECTIVES, PASSES

LENGTH = ["stochastic_layers", "passes"]
KIND = ["objective", "k"]
SCORED = ["eval_images", "eval_samples"]
ONE = ("vae", 1)
LOOKS = {
    ONE: (style.look(THIRD, "v"), ":"),
    ("vae", 5): (style.look(MIDDLE, "s"), "--"),
    ("vae", 50): (style.look(MIDDLE, "D"), "-"),
    ("iwae", 5): (style.look(DARK, "^"), "--"),
    ("iwae", 50): (style.look(DARK, "o"), "-"),
}


class Gains(NamedTuple):
    """A row for each number of layers, objective, k and number of passes; and which runs were not compared, and why."""

    table: pd.DataFrame
    notes: list[str]


def gains(runs: pd.DataFrame) -> Gains:
    """By how much k lowers the test NLL of k = 1, and the active units, at each length of training on MNIST.

    `gain` is the mean over the seeds of which both runs are there, with its deviation, and `active_units` that of
    these runs. An IWAE without a run of k = 1 is compared with the VAE's, which has the same bound. Both runs are
    scored alike. Where a length is scored in several ways, it is the one with most images, then with most samples.
    """
    runs = among(runs, {"model": LAYERS, "objective": OBJECTIVES, "k": KS, "data": ["mnist"]})
    if runs.empty:
        return Gains(pd.DataFrame(), [])
    runs = runs.assign(stochastic_layers=runs["model"].map(LAYERS))
    chosen = choose(runs, ["stochastic_layers", *KIND, "stages", *SCORED], PASSES)
    notes, rows = list(chosen.notes), []
    for length, like in chosen.runs.groupby([*LENGTH, *SCORED]):
        for kind, group in like.groupby(KIND):
            found = pairs(group, _ones(like, kind[0]))
            notes += found.notes
            if found.runs:
                names = dict(zip([*LENGTH, *SCORED, *KIND], [*length, *kind], strict=True))
                rows.append(names | _summary(found.runs))
    if not rows:
        return Gains(pd.DataFrame(), notes)
    table = pd.DataFrame(rows).sort_values(SCORED, kind="stable")
    table = table.drop_duplicates([*LENGTH, *KIND], keep="last").astype({"passes": int})
    return Gains(table.sort_values([*LENGTH, *KIND], ignore_index=True), notes)


def _ones(runs: pd.DataFrame, objective: str) -> pd.DataFrame:
    """The objective's runs of k = 1, and the VAE's of the seeds that it lacks."""
    ones = runs[runs["k"] == 1]
    own, vae = (ones[ones["objective"] == name] for name in (objective, "vae"))
    return pd.concat([own, vae[~vae["seed"].isin(own["seed"])]])


def _summary(found: list[tuple["pd.Series[str]", "pd.Series[str]"]]) -> dict[str, float]:
    gain = pd.Series([float(one["test/nll"]) - float(run["test/nll"]) for run, one in found])
    units = pd.Series([float(run["test/active_units"]) for run, _ in found])
    return {
        "gain": gain.mean(),
        "gain_sd": gain.std(),
        "active_units": units.mean(),
        "active_units_sd": units.std(),
        "seeds": len(found),
    }


def draw(gained: pd.DataFrame, published: pd.DataFrame, path: Path) -> None:
    """Gains above and active units below, against passes; the published ones at the end of the paper's passes."""
    kinds = list(gained.groupby("stochastic_layers"))
    figure, panels = style.panels(2, len(kinds), (max(6.4, 4.6 * len(kinds)), 6.4), sharex=True)
    for (above, below), (layers, group) in zip(panels.T, kinds, strict=True):
        final = published[(published["data"] == "mnist") & (published["stochastic_layers"] == layers)]
        final = final.set_index(KIND)
        units = final.filter(like="active_units").sum(axis=1, min_count=1)
        nll = final["nll"]
        _curves(above, group[group["k"] > 1], "gain", {kind: nll[kind[0], 1] - nll[kind] for kind in LOOKS})
        _curves(below, group, "active_units", {kind: units[kind] for kind in LOOKS})
        above.axhline(0, color="0.4", linewidth=0.8)
        above.set_title(layers_in_words(layers), size=10)
        below.set_xlabel("passes over the training set")
    panels[0, 0].set_ylabel("test NLL gained over k = 1\n(nats per image)")
    panels[1, 0].set_ylabel("active units")
    style.legend_below(figure, panels[1, 0], 3)
    style.save(figure, path)


def _curves(axes: Axes, rows: pd.DataFrame, name: str, published: dict[tuple[str, int], float]) -> None:
    for kind, group in rows.groupby(KIND):
        if kind not in LOOKS:  # the IWAE with k = 1 is the VAE
            continue
        (look, line), label = LOOKS[kind], f"{OBJECTIVES[kind[0]]}, k = {kind[1]}"
        deviation = group[f"{name}_sd"].fillna(0)
        axes.errorbar(group["passes"], group[name], deviation, linestyle=line, capsize=3, label=label, **look)
        axes.plot(PASSES, published[kind], markerfacecolor="white", linestyle="none", **look)
    *_, last = ticks = style.log_ticks(axes, [*rows["passes"], PASSES])
    axes.set_xticks(ticks, [*map(str, ticks[:-1]), f"{last}\n(published)"])
    style.finish(axes)
