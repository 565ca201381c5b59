"""Draws a run's model and training as PNG files.

Figures are made without pyplot. They change no global state and need no display.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.ticker import EngFormatter
from numpy.typing import ArrayLike, NDArray

from evidence.display import style
from evidence.display.style import DARK, LIGHT, MIDDLE

if TYPE_CHECKING:
    import pandas as pd

TILE = 0.5  # inches for one image
PAIRS = 10  # originals with their reconstructions in a row
TILE_PIXELS = 28  # smaller images are enlarged, so that the lines between them stay thin

# Names of metrics in the training curve, in nats per image. Other metrics keep their own names.
LABELS = {
    "train/iwae": "IWAE bound",
    "train/elbo": "ELBO",
    "train/sivi_bound": "SIVI bound",
    "train/log_joint": "log p(x, z)",
}
FLOOR = 1e-6  # the lowest bin holds all activities below it, negative ones too
BINS_PER_DECADE = 4


def image_grid(images: ArrayLike, image_shape: tuple[int, int], path: Path, title: str) -> None:
    """Images [N, X] with pixels in [0, 1] on a grid about as wide as high."""
    images = np.asarray(images)
    columns = math.ceil(math.sqrt(len(images)))
    rows = [images[start : start + columns] for start in range(0, len(images), columns)]
    _tiles(rows, image_shape, path, title)


def samples_over_training(
    samples: Sequence[tuple[int, ArrayLike]], image_shape: tuple[int, int], path: Path
) -> None:
    """A row of images for each step. A column is one latent draw, decoded at each step."""
    title = "The same draws from the prior, over training"
    labels = [f"step {step:,}" for step, _ in samples]
    _tiles([np.asarray(images) for _, images in samples], image_shape, path, title, labels)


def reconstructions(originals: ArrayLike, means: ArrayLike, image_shape: tuple[int, int], path: Path) -> None:
    """Originals [N, X], each above its reconstruction [N, X]."""
    pairs = np.asarray(originals), np.asarray(means)
    starts = range(0, len(pairs[0]), PAIRS)
    rows = [images[start : start + PAIRS] for start in starts for images in pairs]
    labels = ["x", "E[x | z]"] * len(starts)
    _tiles(rows, image_shape, path, "Test images above their reconstructions", labels)


def training_curve(metrics: "pd.DataFrame", path: Path) -> None:
    """Draw the objective's first metric and the ELBO by step, smoothed, and valid/nll as points. Lower is better.

    `metrics` has the columns name, value and step. Bounds are negated. The y axis leaves out the first twentieth of
    training where it is far above the rest.
    """
    figure, ((axes,),) = style.panels(1, 1, (6.4, 3.8))
    visible: list[float] = []
    watched = metrics.loc[metrics["name"].str.startswith("train/"), "name"].head(1)
    for name, colour in zip(dict.fromkeys([*watched, "train/elbo"]), (DARK, MIDDLE), strict=False):
        curve = metrics[metrics["name"] == name]
        if len(curve):
            smooth = -curve["value"].rolling(max(1, len(curve) // 100), min_periods=1, center=True).mean()
            label = LABELS.get(name, name.removeprefix("train/"))
            axes.plot(curve["step"], smooth, color=colour, label=f"training: negative {label}")
            visible += list(smooth[curve["step"] > curve["step"].max() / 20])
    valid = metrics[metrics["name"] == "valid/nll"]
    if len(valid):
        axes.plot(valid["step"], valid["value"], "ko", markersize=5, label="validation NLL")
        visible += list(valid["value"])
    visible = [value for value in visible if math.isfinite(value)]
    if visible:
        margin = 0.05 * (max(visible) - min(visible)) + 0.5
        axes.set_ylim(min(visible) - margin, max(visible) + margin)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_xlabel("training step")
    axes.set_ylabel("nats per image (lower is better)")
    style.finish(axes)
    axes.legend(frameon=False)
    figure.savefig(path)


def activity_histogram(activities: Sequence[ArrayLike], threshold: float, path: Path) -> None:
    """A histogram of the units' activities A_u = Cov_x(E[z_u | x]), with a panel for each layer's activities [D].

    The estimate of an activity is unbiased, so that of an inactive unit may be negative.
    """
    figure, axes_by_layer = style.panels(len(activities), 1, (6.4, 1.2 + 1.9 * len(activities)), sharex=True)
    panels = axes_by_layer[:, 0]
    layers = [np.maximum(np.asarray(layer, dtype=float), FLOOR) for layer in activities]
    bottom = round(math.log10(FLOOR))
    top = math.ceil(math.log10(max(1.0, *(layer.max() for layer in layers))))
    edges = np.logspace(bottom, top, BINS_PER_DECADE * (top - bottom) + 1)
    for number, (axes, layer) in enumerate(zip(panels, layers, strict=True), 1):
        active = layer > threshold
        groups, colours = [layer[active], layer[~active]], (DARK, LIGHT)
        labels = [f"{active.sum()} of {len(layer)} active", f"{(~active).sum()} inactive"]
        axes.hist(groups, edges, stacked=True, color=colours, label=labels, edgecolor="w")
        axes.axvline(threshold, color=MIDDLE, linestyle="--", linewidth=1.4, label=f"threshold {threshold:g}")
        axes.set_xscale("log")
        axes.set_xlim(edges[0], edges[-1])
        axes.set_ylabel(f"units of layer {number}" if len(layers) > 1 else "latent units")
        axes.yaxis.get_major_locator().set_params(integer=True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=3)
    panels[-1].set_xlabel("activity $A_u$ = Cov$_x$(E[$z_u$ | x])")
    decades = range(bottom, top + 1)
    names = [f"$10^{{{power}}}$" for power in decades]
    names[0] = f"≤ {names[0]}\nor negative"
    panels[-1].set_xticks([10.0**power for power in decades], names)
    figure.savefig(path)


def _tiles(
    rows: Sequence[NDArray[np.floating]],
    image_shape: tuple[int, int],
    path: Path,
    title: str,
    labels: Sequence[str] = (),
) -> None:
    """One picture of rows of images, dark on white, with thin grey lines between them."""
    scale = max(1, TILE_PIXELS // image_shape[0])
    height, width = (scale * length for length in image_shape)
    columns, gap = max(len(images) for images in rows), 2
    sheet = np.full((len(rows) * (height + gap) - gap, columns * (width + gap) - gap), 0.15)
    for row, images in enumerate(rows):
        for column, image in enumerate(images):
            y, x = row * (height + gap), column * (width + gap)
            tile = image.reshape(image_shape).repeat(scale, axis=0).repeat(scale, axis=1)
            sheet[y : y + height, x : x + width] = tile
    size = (max(3.6, columns * TILE + (0.9 if labels else 0.1)), len(rows) * TILE + 0.35)
    figure, ((axes,),) = style.panels(1, 1, size)
    axes.imshow(sheet, cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
    axes.set_title(title, fontsize=10)
    axes.set_xticks([])
    axes.set_yticks([row * (height + gap) + height / 2 for row in range(len(labels))], labels, fontsize=8)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    figure.savefig(path)
