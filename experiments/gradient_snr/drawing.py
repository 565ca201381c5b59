"""The study's picture: the signal-to-noise ratio against k, of the encoder's and of the decoder's gradient."""

from pathlib import Path

import pandas as pd

from evidence.display import style
from experiments.gradient_snr.estimators import ESTIMATORS

TITLES = {"encoder": "encoder (b)", "decoder": "decoder and prior (mu)"}


def draw(results: pd.DataFrame, path: Path) -> None:
    """A line for each estimator, with its standard error over seeds."""
    figure, ((left, right),) = style.panels(1, 2, (10.0, 4.8))
    looks = {
        name: look | {"linestyle": "-" if number < len(style.COLOURS) else "--"}
        for number, (name, look) in enumerate(zip(ESTIMATORS, style.looks(len(ESTIMATORS)), strict=True))
    }
    for axes, (part, title) in zip((left, right), TITLES.items(), strict=True):
        shown = results[results["part"] == part]
        for name, rows in shown.groupby("estimator", sort=False):
            axes.errorbar(
                rows["k"],
                rows["snr"],
                rows["snr_se"],
                capsize=2,
                label=name,
                markersize=5,
                **looks[str(name)],
            )
        axes.set_yscale("log")
        style.log_ticks(axes, shown["k"])
        axes.set_xlabel("samples k")
        axes.set_title(title)
    left.set_ylabel("|E g| / sqrt(tr Var g)")
    style.legend_below(figure, left, 4, fontsize=8)
    style.finish(left, right)
    style.save(figure, path)
