"""What more samples gain at each stage of a training: why a short one favours the VAE with many samples.

A VAE with k samples averages k gradients, so it climbs faster at first, whatever its bound reaches in the end.
"""

from pathlib import Path
from typing import NamedTuple

import pandas as pd
from matplotlib.axes import Axes

from evidence import project
from evidence.display import style
from evidence.display.style import DARK, MIDDLE
from evidence.records.damage import left_out
from evidence.records.directory import Row, RunDirectory
from evidence.report.selection import EVALUATION, LENGTH, OBJECTIVE, pairs
from experiments.iwae_table1.drawing import layers_in_words
from experiments.iwae_table1.paper import OBJECTIVES, PASSES

# Settings that the validation at the end of a stage does not depend on.
IGNORED = (*OBJECTIVE, *LENGTH, *EVALUATION)
LOOKS = {
    ("vae", 5): (style.look(MIDDLE, "s"), "--"),
    ("vae", 50): (style.look(MIDDLE, "D"), "-"),
    ("iwae", 5): (style.look(DARK, "^"), "--"),
    ("iwae", 50): (style.look(DARK, "o"), "-"),
}


class Gains(NamedTuple):
    """A row for each number of layers, objective, k and number of passes; and which runs were left out, and why."""

    table: pd.DataFrame
    notes: list[str]


def gains(runs: pd.DataFrame) -> Gains:
    """By how much k > 1 lowers the validation NLL (L_100, 400 images) at the end of each stage, on MNIST.

    The mean over the seeds of which both runs are there, with their deviation, from the runs that Table 1 shows,
    as far as their folders are here and still hold them.
    """
    if runs.empty:
        return Gains(pd.DataFrame(), [])
    runs = runs[(runs["data"] == "mnist") & runs["passes"].notna()]
    curves = {run["run"]: curve for _, run in runs.iterrows() if (curve := _curve(run))}
    runs = runs[runs["run"].isin(curves.keys())]
    differences, notes = [], []
    for (layers, objective), group in runs[runs["k"] > 1].groupby(["stochastic_layers", "objective"]):
        singles = runs[(runs["k"] == 1) & (runs["stochastic_layers"] == layers)]
        own, vae = (singles[singles["objective"] == name] for name in (objective, "vae"))  # the same bound
        found = pairs(group, pd.concat([own, vae[~vae["seed"].isin(own["seed"])]]), IGNORED)
        notes += found.notes
        for run, single in found.runs:
            cell = {"stochastic_layers": layers, "objective": objective, "k": int(run["k"])}
            curve, above = curves[run["run"]], curves[single["run"]]
            differences += [
                {**cell, "passes": passes, "gain": above[passes] - value}
                for passes, value in curve.items()
                if passes in above
            ]
    if not differences:
        return Gains(pd.DataFrame(), notes)
    table = (
        pd.DataFrame(differences)
        .groupby(["stochastic_layers", "objective", "k", "passes"], as_index=False)
        .agg(gain=("gain", "mean"), gain_sd=("gain", "std"), seeds=("gain", "size"))
    )
    return Gains(table, notes)


def _curve(run: "pd.Series[str]") -> dict[int, float]:
    """valid/nll by the number of passes; empty where the folder is not here, is damaged or has another record."""
    directory = RunDirectory(project.root() / run["folder"])
    per_pass = int(run["steps"]) // int(run["passes"])
    rows: list[Row] = []
    with left_out(directory.folder):
        record = directory.read()
        if record is not None and record.record == run["record"]:
            rows = directory.read_metrics()
    return {
        step // per_pass: value for name, value, step in rows if name == "valid/nll" and step % per_pass == 0
    }


def draw(gained: pd.DataFrame, published: pd.DataFrame, path: Path) -> None:
    """Gains against passes, the published ones at the end of the paper's passes; a column for each number of layers."""
    kinds = list(gained.groupby("stochastic_layers"))
    figure, (panels,) = style.panels(1, len(kinds), (max(6.4, 4.6 * len(kinds)), 4.0))
    for axes, (layers, group) in zip(panels, kinds, strict=True):
        final = published[(published["data"] == "mnist") & (published["stochastic_layers"] == layers)]
        _curves(axes, group, final.set_index(["objective", "k"])["nll"])
        axes.set_title(layers_in_words(layers), size=10)
    panels[0].set_ylabel("NLL gained over k = 1 (nats per image)")
    panels[-1].legend(frameon=False)
    style.save(figure, path)


def _curves(axes: Axes, gained: pd.DataFrame, nll: "pd.Series[float]") -> None:
    for (objective, k), (look, line) in LOOKS.items():
        rows = gained[(gained["objective"] == objective) & (gained["k"] == k)]
        label, deviation = f"{OBJECTIVES[objective]}, k = {k}", rows["gain_sd"].fillna(0)
        axes.errorbar(rows["passes"], rows["gain"], deviation, linestyle=line, capsize=3, label=label, **look)
        theirs = nll[objective, 1] - nll[objective, k]
        axes.plot(PASSES, theirs, markerfacecolor="white", linestyle="none", **look)
    *_, last = ticks = style.log_ticks(axes, [*gained["passes"], PASSES])
    axes.set_xticks(ticks, [*map(str, ticks[:-1]), f"{last}\n(published)"])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("passes over the training set")
    style.finish(axes)
