"""Figures show what they are given, read back from the file or from matplotlib's objects."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imread

from evidence.display import plots

STEPS = np.arange(100, 38_741, 100)


def drawn(monkeypatch: pytest.MonkeyPatch, draw, *arguments) -> list[Axes]:
    """The panels of the one figure that a function draws."""
    kept: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path: kept.append(figure))
    draw(*arguments, Path("unused.png"))
    (figure,) = kept
    figure.draw_without_rendering()
    return figure.axes


def curve(name: str, level: float) -> list[tuple[str, float, int]]:
    """A bound that climbs from about -540 to `level`."""
    return [(name, level - 440 * np.exp(-step / 100), int(step)) for step in STEPS]


def frame(rows: list[tuple[str, float, int]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["name", "value", "step"])


def legend(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_each_figure_is_a_small_png(tmp_path: Path) -> None:
    images = torch.rand(64, 784)
    plots.image_grid(images, (28, 28), tmp_path / "grid.png", "Samples")
    plots.samples_over_training([(0, images[:10]), (10, images[10:20])], (28, 28), tmp_path / "over.png")
    plots.reconstructions(images[:20], images[20:40], (28, 28), tmp_path / "reconstructions.png")
    noise = [
        ("train/iwae", -94 + value, int(step)) for value, step in zip(torch.randn(387), STEPS, strict=True)
    ]
    plots.training_curve(frame(noise), tmp_path / "curve.png")
    plots.activity_histogram([torch.rand(100), torch.rand(50)], 1e-2, tmp_path / "activity.png")
    files = sorted(tmp_path.iterdir())
    assert len(files) == 5
    for path in files:
        assert path.read_bytes().startswith(b"\x89PNG")
        assert path.stat().st_size < 200_000


def test_reconstructions_stand_below_their_originals(tmp_path: Path) -> None:
    ink, paper = np.ones((10, 64)), np.zeros((10, 64))
    plots.reconstructions(ink, paper, (8, 8), tmp_path / "pairs.png")
    picture = imread(tmp_path / "pairs.png")[..., :3].mean(-1)
    column = picture[:, picture.shape[1] // 2 - 5 :][:, :4].mean(1)
    dark = np.flatnonzero(column < 0.2)
    light = np.flatnonzero(column > 0.95)
    assert len(dark) > 50
    assert (light > dark.max()).sum() > 50


def test_an_image_lies_as_it_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.zeros((28, 28))
    image[3, 20] = 1.0
    samples = [(0, image.reshape(1, -1)), (1200, np.stack([image.ravel(), image.ravel()]))]
    (axes,) = drawn(monkeypatch, plots.samples_over_training, samples, (28, 28))
    sheet = axes.images[0].get_array()
    assert sheet.shape == (58, 58)
    assert np.argwhere(sheet == 1.0).tolist() == [[3, 20], [33, 20], [33, 50]]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["step 0", "step 1,200"]


def test_the_first_steps_do_not_flatten_the_curve(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = (
        curve("train/iwae", -94.0) + curve("train/elbo", -98.0) + [("train/effective_sample_size", 5.0, 100)]
    )
    rows += [("valid/nll", 107.0, 2980), ("valid/nll", 93.5, 38_740)]
    (axes,) = drawn(monkeypatch, plots.training_curve, frame(rows))
    bottom, top = axes.get_ylim()
    assert 92 < bottom < 93.5
    assert 107 < top < 115
    assert "nats per image" in axes.get_ylabel()
    assert legend(axes) == ["training: negative IWAE bound", "training: negative ELBO", "validation NLL"]


def test_a_curve_that_broke_down_is_still_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [("train/log_joint", value, step) for step, value in enumerate([-500.0, np.nan, -120.0, np.inf])]
    (axes,) = drawn(monkeypatch, plots.training_curve, frame(rows))
    assert np.isfinite(axes.get_ylim()).all()


def test_the_histogram_counts_every_unit_and_splits_at_the_threshold(monkeypatch: pytest.MonkeyPatch) -> None:
    layers = [np.array([0.5, 20.0, 0.3, 0.011, 0.009, -1e-4, 0.0]), np.array([0.02, 1e-9])]
    first, second = drawn(monkeypatch, plots.activity_histogram, layers, 1e-2)
    assert sum(patch.get_height() for patch in first.patches) == 7
    assert sum(patch.get_height() for patch in second.patches) == 2
    lowest = [patch.get_height() for patch in first.patches if patch.get_x() == pytest.approx(1e-6)]
    assert sum(lowest) == 2
    assert legend(first) == ["4 of 7 active", "3 inactive", "threshold 0.01"]
    assert legend(second) == ["1 of 2 active", "1 inactive", "threshold 0.01"]
    assert "or negative" in second.get_xticklabels()[0].get_text()


def test_nothing_global_is_touched() -> None:
    program = "import sys, evidence.display.plots; sys.exit('matplotlib.pyplot' in sys.modules)"
    environment = {"PYTHONPATH": str(Path(plots.__file__).parents[2])}
    assert subprocess.run([sys.executable, "-c", program], env=environment, check=False).returncode == 0
