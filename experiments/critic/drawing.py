"""The study's pictures: what each form ends with, and what its encoder's gradient is worth."""

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from evidence.display.plots import DARK, DPI, LIGHT, MIDDLE
from experiments.critic.gradients import FLOOR

STYLES = [
    (DARK, "o", "-"),
    (MIDDLE, "s", "-"),
    ("0.45", "^", "--"),
    ("0.45", "v", ":"),
    (LIGHT, "D", "--"),
    (LIGHT, "P", "-"),
    (LIGHT, "X", ":"),
]


def draw_nll(results: pd.DataFrame, path: Path) -> None:
    """Left: NLL of each form; right: of the critic's forms against the fraction clipped."""
    figure = Figure(figsize=(10.0, 3.9), dpi=DPI, layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    bars = results["nll_sd"].fillna(results["nll_se"])
    for number, (_, row) in enumerate(results.iterrows()):
        is_critic = row["form"] not in ("VAE", "IWAE")
        colour, marker, _ = STYLES[number]
        points = {"color": colour, "marker": marker, "capsize": 3, "markeredgecolor": DARK, "ecolor": "0.4"}
        left.errorbar(number, row["nll"], bars[number], **points)
        if is_critic:
            right.errorbar(
                100 * row["clipped_fraction"],
                row["nll"],
                bars[number],
                label=row["form"],
                **points,
                linestyle="",
            )
    for name, line in (("VAE", "--"), ("IWAE", ":")):
        for nll in results.loc[results["form"] == name, "nll"]:
            right.axhline(nll, color="0.3", linestyle=line, linewidth=1, label=name)
    left.set_xticks(range(len(results)), results["form"], rotation=30, ha="right", rotation_mode="anchor")
    left.set_ylabel("test NLL (nats per image)")
    right.set_xlabel("weights clipped at the end of training (%)")
    handles = right.get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=7, frameon=False, fontsize=8)
    _open(left, right)
    figure.savefig(path)


def draw_gradients(gradients: pd.DataFrame, path: Path) -> None:
    """Signal-to-noise ratios against k, a line for each form."""
    figure = Figure(figsize=(10.0, 4.6), dpi=DPI, layout="constrained")
    left, right = figure.subplots(1, 2)
    for (form, rows), (colour, marker, line) in zip(
        gradients.groupby("form", sort=False), STYLES, strict=True
    ):
        look = {
            "color": colour,
            "marker": marker,
            "linestyle": line,
            "capsize": 3,
            "markeredgecolor": DARK,
            "label": form,
        }
        left.errorbar(rows["k"], rows["snr"], rows["snr_se"], **look)
        right.errorbar(rows["k"], rows["squared_snr"], rows["squared_snr_se"], **look)
    draws = gradients["draws"].iloc[0]
    floor = FLOOR / draws**0.5
    left.axhline(
        floor, color="0.3", linestyle=(0, (1, 1)), linewidth=1, label=f"noise floor, {draws:,} draws"
    )
    left.set_yscale("log")
    left.set_ylabel("median |mean| / sd of a parameter's gradient")
    right.axhline(0, color="0.3", linewidth=1)
    right.axhline(1 / draws, color="0.3", linestyle=(0, (1, 1)), linewidth=1)
    right.set_yscale("symlog", linthresh=1e-3)
    lowest = (gradients["squared_snr"] - gradients["squared_snr_se"]).min()
    right.set_ylim(bottom=min(-2e-4, 1.2 * lowest))
    right.set_ylabel("|E g|² / tr Var g")
    for axes in left, right:
        axes.set_xscale("log")
        axes.set_xlabel("samples k")
        axes.set_xticks(gradients["k"].unique(), [str(k) for k in gradients["k"].unique()])
        axes.minorticks_off()
    handles = left.get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    _open(left, right)
    figure.savefig(path)


def _open(*panels: Axes) -> None:
    for axes in panels:
        axes.grid(color="0.9", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
