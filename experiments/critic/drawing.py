"""The study's pictures: what each form ends with, and what its encoder's gradient is worth."""

from pathlib import Path
from typing import Any

import pandas as pd

from evidence.display import style
from evidence.display.style import COLOURS, MARKERS
from experiments.critic.gradients import FLOOR

LINES = ("-", "-", "--", ":", "--", "-.", ":")
STYLES = [(*each, line) for each, line in zip(zip(COLOURS, MARKERS, strict=False), LINES, strict=True)]


def draw_nll(results: pd.DataFrame, path: Path) -> None:
    """Left: NLL of each form less the VAE's; right: of the critic's forms, against the fraction clipped."""
    figure, ((left, right),) = style.panels(1, 2, (10.0, 3.9), sharey=True)
    bars = results["difference_sd"].fillna(0)
    for number, (_, row) in enumerate(results.iterrows()):
        colour, marker, _ = STYLES[number]
        points = style.look(colour, marker, capsize=3)
        left.errorbar(number, row["difference"], bars[number], **points)
        if row["form"] not in ("VAE", "IWAE"):
            clipped = 100 * row["clipped_fraction"]
            right.errorbar(
                clipped, row["difference"], bars[number], label=row["form"], linestyle="", **points
            )
    for name, line in (("VAE", "--"), ("IWAE", ":")):
        for difference in results.loc[results["form"] == name, "difference"]:
            right.axhline(difference, color="0.3", linestyle=line, linewidth=1, label=name)
    left.set_xticks(range(len(results)), results["form"], rotation=30, ha="right", rotation_mode="anchor")
    left.set_ylabel("test NLL less the VAE's\n(nats per image, lower is better)")
    right.set_xlabel("weights clipped at the end of training (%)")
    style.legend_below(figure, right, 7, fontsize=8)
    style.finish(left, right)
    style.save(figure, path)


def draw_gradients(gradients: pd.DataFrame, path: Path) -> None:
    """Signal-to-noise ratios against k, a line for each form."""
    figure, ((left, right),) = style.panels(1, 2, (10.0, 4.6))
    forms = gradients.groupby("form", sort=False)
    for (form, rows), (colour, marker, line) in zip(forms, STYLES, strict=True):
        look = style.look(colour, marker, linestyle=line, capsize=3, label=form)
        left.errorbar(rows["k"], rows["snr"], rows["snr_se"], **look)
        right.errorbar(rows["k"], rows["squared_snr"], rows["squared_snr_se"], **look)
    draws = gradients["draws"].iloc[0]
    noise: dict[str, Any] = {"color": "0.3", "linestyle": (0, (1, 1)), "linewidth": 1}
    left.axhline(FLOOR / draws**0.5, label=f"noise floor, {draws:,} draws", **noise)
    left.set_yscale("log")
    left.set_ylabel("median |mean| / sd of a parameter's gradient")
    right.axhline(0, color="0.3", linewidth=1)
    right.axhline(1 / draws, **noise)
    right.set_yscale("symlog", linthresh=1e-3)
    lowest = (gradients["squared_snr"] - gradients["squared_snr_se"]).min()
    right.set_ylim(bottom=min(-2e-4, 1.2 * lowest))
    right.set_ylabel("|E g|² / tr Var g")
    for axes in left, right:
        style.log_ticks(axes, gradients["k"])
        axes.set_xlabel("samples k")
    style.legend_below(figure, left, 4, fontsize=8)
    style.finish(left, right)
    style.save(figure, path)
