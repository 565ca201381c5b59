"""What more samples gain at each stage of a training: why a short one flatters the VAE with many samples.

A VAE with k samples averages k gradients, so it climbs faster at first, whatever its bound reaches in the end.
"""

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from evidence.figures import DARK, DPI, MIDDLE
from evidence.record import Home
from evidence.report.frame import ROOT
from evidence.report.judging import PASSES

STEPS_A_PASS = 2980  # of MNIST in batches of 20
LOOKS = {
    ("vae", 5): (MIDDLE, "s", "--"),
    ("vae", 50): (MIDDLE, "D", "-"),
    ("iwae", 5): (DARK, "^", "--"),
    ("iwae", 50): (DARK, "o", "-"),
}


def gains(runs: pd.DataFrame) -> pd.DataFrame:
    """By how much k > 1 lowers the validation NLL (L_100, 400 images) at the end of each stage, one layer on MNIST.

    A row for each objective, k and number of passes: the mean over the seeds that have both, with their deviation.
    Only of runs whose folders are here.
    """
    curves = {}
    chosen = runs[(runs["model"] == "one_layer") & (runs["data"] == "mnist")] if len(runs) else runs
    for _, run in chosen.iterrows():
        rows = Home(Path(ROOT, run["folder"])).read_metrics()
        nll = {step // STEPS_A_PASS: value for name, value, step in rows if name == "valid/nll"}
        key = run["objective"], int(run["k"]), run["seed"]
        curves[key] = nll if len(nll) > len(curves.get(key, {})) else curves[key]
    differences = []
    for (objective, k, seed), curve in curves.items():
        single = curves.get((objective, 1, seed)) or curves.get(("vae", 1, seed), {})  # the same bound
        differences += [
            {"objective": objective, "k": k, "passes": passes, "gain": single[passes] - value}
            for passes, value in curve.items()
            if k > 1 and passes in single
        ]
    if not differences:
        return pd.DataFrame()
    return (
        pd.DataFrame(differences)
        .groupby(["objective", "k", "passes"], as_index=False)
        .agg(gain=("gain", "mean"), gain_sd=("gain", "std"), seeds=("gain", "size"))
    )


def draw(gained: pd.DataFrame, published: pd.DataFrame, path: Path) -> None:
    """Gains against passes, the published ones at the end of the paper's 3280."""
    figure = Figure(figsize=(6.4, 4.0), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    final = published[(published["data"] == "mnist") & (published["stochastic_layers"] == 1)]
    nll = final.set_index(["objective", "k"])["nll"]
    for (objective, k), (colour, marker, line) in LOOKS.items():
        rows = gained[(gained["objective"] == objective) & (gained["k"] == k)]
        look = {"color": colour, "marker": marker}
        label = f"{objective.upper()}, k = {k}"
        axes.errorbar(
            rows["passes"],
            rows["gain"],
            rows["gain_sd"].fillna(0),
            linestyle=line,
            capsize=3,
            label=label,
            **look,
        )
        axes.plot(
            PASSES, nll[objective, 1] - nll[objective, k], markerfacecolor="white", linestyle="none", **look
        )
    axes.set_xscale("log")
    ticks = [*sorted(set(gained["passes"])), PASSES]
    axes.set_xticks(ticks, [*map(str, ticks[:-1]), f"{PASSES}\n(published)"])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.set_xlabel("passes over the training set")
    axes.set_ylabel("NLL gained over k = 1 (nats per image)")
    axes.grid(color="0.9", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path)
