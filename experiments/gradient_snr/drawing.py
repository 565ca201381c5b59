"""The study's picture: the signal-to-noise ratio against k, of the encoder's and of the decoder's gradient."""

from pathlib import Path

import pandas as pd
from matplotlib.ticker import FuncFormatter, LogLocator

from evidence.display import style
from experiments.gradient_snr.claims import GAUSSIAN, TRAINED
from experiments.gradient_snr.estimators import ESTIMATORS

TITLES = {
    (GAUSSIAN, "encoder"): "linear-Gaussian: encoder (b)",
    (GAUSSIAN, "decoder"): "linear-Gaussian: prior (mu)",
    (TRAINED, "encoder"): "MNIST: encoder",
    (TRAINED, "decoder"): "MNIST: decoder",
}


def draw(results: pd.DataFrame, path: Path) -> None:
    """A line for each estimator, with its standard error over seeds."""
    models = [model for model in (GAUSSIAN, TRAINED) if model in set(results["model"])]
    titles = {key: title for key, title in TITLES.items() if key[0] in models}
    figure, panels = style.panels(len(models), 2, (10.0, 0.8 + 4.0 * len(models)))
    every = [axes for row in panels for axes in row]
    looks = {
        name: look | {"linestyle": "-" if number < len(style.COLOURS) else "--"}
        for number, (name, look) in enumerate(zip(ESTIMATORS, style.looks(len(ESTIMATORS)), strict=True))
    }
    for axes, ((model, part), title) in zip(every, titles.items(), strict=True):
        shown = results[(results["part"] == part) & (results["model"] == model)]
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
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 3) if model == GAUSSIAN else (1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        style.log_ticks(axes, shown["k"])
        axes.set_xlabel("samples k")
        axes.set_title(title)
    for axes in every[::2]:
        axes.set_ylabel("|E g| / sqrt(tr Var g)")
    style.legend_below(figure, every[0], 4, fontsize=8)
    style.finish(*every)
    style.save(figure, path)
