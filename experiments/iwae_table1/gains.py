"""What more samples gain at each stage of a training: why a short one flatters the VAE with many samples.

A VAE with k samples averages k gradients, so it climbs faster at first, whatever its bound reaches in the end.
"""

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from evidence.figures import DARK, DPI, MIDDLE
from evidence.record import Home
from evidence.report.frame import ROOT
from evidence.report.judging import PASSES
from experiments.tables import LAYERS

STEPS_A_PASS = 2980  # of MNIST in batches of 20
LOOKS = {
    ("vae", 5): (MIDDLE, "s", "--"),
    ("vae", 50): (MIDDLE, "D", "-"),
    ("iwae", 5): (DARK, "^", "--"),
    ("iwae", 50): (DARK, "o", "-"),
}


def gains(runs: pd.DataFrame) -> pd.DataFrame:
    """By how much k > 1 lowers the validation NLL (L_100, 400 images) at the end of each stage, on MNIST.

    A row for each number of layers, objective, k and number of passes: the mean over the seeds that have both, with
    their deviation. Only of runs whose folders are here.
    """
    curves = {}
    chosen = runs[runs["model"].isin(LAYERS) & (runs["data"] == "mnist")] if len(runs) else runs
    for _, run in chosen.iterrows():
        rows = Home(Path(ROOT, run["folder"])).read_metrics()
        nll = {step // STEPS_A_PASS: value for name, value, step in rows if name == "valid/nll"}
        key = LAYERS[run["model"]], run["objective"], int(run["k"]), run["seed"]
        curves[key] = nll if len(nll) > len(curves.get(key, {})) else curves[key]
    differences = []
    for (layers, objective, k, seed), curve in curves.items():
        single = curves.get((layers, objective, 1, seed)) or curves.get(
            (layers, "vae", 1, seed), {}
        )  # the same bound
        cell = {"stochastic_layers": layers, "objective": objective, "k": k}
        differences += [
            {**cell, "passes": passes, "gain": single[passes] - value}
            for passes, value in curve.items()
            if k > 1 and passes in single
        ]
    if not differences:
        return pd.DataFrame()
    return (
        pd.DataFrame(differences)
        .groupby(["stochastic_layers", "objective", "k", "passes"], as_index=False)
        .agg(gain=("gain", "mean"), gain_sd=("gain", "std"), seeds=("gain", "size"))
    )


def draw(gained: pd.DataFrame, published: pd.DataFrame, path: Path) -> None:
    """Gains against passes, the published ones at the end of the paper's 3280; a column for each number of layers."""
    kinds = list(gained.groupby("stochastic_layers"))
    figure = Figure(figsize=(max(6.4, 4.6 * len(kinds)), 4.0), dpi=DPI, layout="constrained")
    panels = figure.subplots(1, len(kinds), squeeze=False)[0]
    for axes, (layers, group) in zip(panels, kinds, strict=True):
        final = published[(published["data"] == "mnist") & (published["stochastic_layers"] == layers)]
        _curves(axes, group, final.set_index(["objective", "k"])["nll"])
        axes.set_title(f"{layers} stochastic layer{'s' * (layers > 1)}", size=10)
    panels[0].set_ylabel("NLL gained over k = 1 (nats per image)")
    panels[-1].legend(frameon=False)
    figure.savefig(path)


def _curves(axes: Axes, gained: pd.DataFrame, nll: "pd.Series[float]") -> None:
    for (objective, k), (colour, marker, line) in LOOKS.items():
        rows = gained[(gained["objective"] == objective) & (gained["k"] == k)]
        look = {"color": colour, "marker": marker}
        bars = {"capsize": 3, "label": f"{objective.upper()}, k = {k}"}
        axes.errorbar(rows["passes"], rows["gain"], rows["gain_sd"].fillna(0), linestyle=line, **bars, **look)
        theirs = nll[objective, 1] - nll[objective, k]
        axes.plot(PASSES, theirs, markerfacecolor="white", linestyle="none", **look)
    axes.set_xscale("log")
    ticks = [*sorted(set(gained["passes"])), PASSES]
    axes.set_xticks(ticks, [*map(str, ticks[:-1]), f"{PASSES}\n(published)"])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.set_xlabel("passes over the training set")
    axes.grid(color="0.9", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
