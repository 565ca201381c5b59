"""A trained model is built again as it was made, and a line says where that cannot be."""

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import runs
import torch
from torch import Tensor, nn

import evidence
from evidence import data
from evidence.data import evenly_spaced_rows
from evidence.models import LatentVariableModel, hierarchical

pytestmark = pytest.mark.usefixtures("no_figures")


def permuted(mean_pixels: Tensor) -> LatentVariableModel:
    """The encoder sees the pixels in an order that NumPy and Python have drawn, and no checkpoint keeps."""
    model = hierarchical(64, [3], [[8]], "relu", mean_pixels)
    order = np.random.permutation(64).tolist()
    random.shuffle(order)
    model.posterior = Permuted(model.posterior, order)
    return model


class KeepsMeanPixels(nn.Module):
    """A likelihood that keeps the mean pixels, their mean and where they are large, in no parameter or buffer."""

    def __init__(self, then: nn.Module, mean_pixels: Tensor) -> None:
        super().__init__()
        self.then, self.offset = then, 0.1 * mean_pixels
        self.mean, self.is_large = float(mean_pixels.mean()), (mean_pixels > 0.3).tolist()

    def forward(self, z: Tensor) -> object:
        q = self.then(z)
        return q._replace(logits=q.logits + self.offset + self.mean * torch.tensor(self.is_large))


def keeping(mean_pixels: Tensor) -> LatentVariableModel:
    """A model that is made of the mean pixels."""
    model = hierarchical(64, [3], [[8]], "relu", mean_pixels)
    model.likelihood = KeepsMeanPixels(model.likelihood, mean_pixels)
    return model


def wide(pixels: int) -> data.Dataset:
    """The digits, as images of 4 rows of 16 pixels."""
    return data.digits(pixels, "stochastic")._replace(image_shape=(4, 16))


class Permuted(nn.Module):
    def __init__(self, then: nn.Module, order: list[int]) -> None:
        super().__init__()
        self.then, self.order = then, order

    def forward(self, x: Tensor) -> object:
        return self.then(x[:, self.order])


OWN = [
    f"model._target_={__name__}.permuted",
    "~model.data_dim",
    "~model.latent",
    "~model.hidden",
    "~model.activation",
    "tracking=none",
]


def test_what_numpy_and_python_drew_when_the_model_was_made_is_drawn_again(
    root: Path,
) -> None:
    assert runs.start(*OWN) == 0
    np.random.seed(5)
    before = np.random.get_state()[1].copy(), random.getstate()
    found = evidence.load(runs.only_directory(root).folder, "cpu")
    assert np.array_equal(before[0], np.random.get_state()[1])
    assert before[1] == random.getstate()
    every = evenly_spaced_rows(300, found.config["eval"]["images"])
    log_p = found.log_prob(data.digits(64, "stochastic").test, found.config["eval"]["samples"])[every]
    assert -log_p.mean().item() == pytest.approx(found.metrics["test/nll"], rel=1e-6)


def test_a_model_may_keep_the_mean_pixels_in_any_form(
    root: Path, fresh_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(fresh_store, root)
    words = [*OWN[1:-1], f"model._target_={__name__}.keeping"]
    assert runs.start(*words) == 0
    with monkeypatch.context() as patch:
        patch.setattr(data, "mean_pixels", lambda _: pytest.fail("data is read"))
        folder = runs.only_directory(root).folder
        found = evidence.load(folder, "cpu")
        shutil.rmtree(folder)
        (run,) = runs.mlflow_runs()
        of_mlflow = evidence.load(run.info.run_id, "cpu")
    images = data.digits(64, "stochastic").test
    every = evenly_spaced_rows(300, found.config["eval"]["images"])
    log_p = found.log_prob(images, found.config["eval"]["samples"])
    assert -log_p[every].mean().item() == pytest.approx(found.metrics["test/nll"], rel=1e-6)
    z = torch.ones(2, 3)
    assert torch.equal(found.model.likelihood(z).logits, of_mlflow.model.likelihood(z).logits)


def test_a_trained_model_reads_images_of_the_sides_that_its_data_has(root: Path) -> None:
    own = [f"data._target_={__name__}.wide", "data.name=wide", "~data.binarization", "tracking=none"]
    assert runs.start(*own) == 0
    found = evidence.load(runs.only_directory(root).folder, "cpu")
    images = wide(64).test
    assert found.image_shape == (4, 16)
    assert torch.equal(found.log_prob(images.view(-1, 4, 16), 5), found.log_prob(images, 5))
    with pytest.raises(evidence.UserError, match=r"\[B, 64\] or \[B, 4, 16\], and are .* \[300, 8, 8\]"):
        found.log_prob(images.view(-1, 8, 8), 5)


def test_a_line_says_where_the_code_has_changed_since_the_training(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert runs.start(*OWN) == 0
    folder = runs.only_directory(root).folder
    capsys.readouterr()
    evidence.load(folder, "cpu")
    assert capsys.readouterr().err == ""
    path = folder / "result.json"
    record = json.loads(path.read_text())
    assert __name__ in record["code"]
    record["code"] |= {__name__: "0" * 16, "eval.metrics: another": "0" * 16}
    path.write_text(json.dumps(record))
    evidence.load(folder, "cpu")
    assert capsys.readouterr().err == (
        f"evidence: {folder.name} was trained by other code ({__name__} has changed): its numbers here may"
        " differ from its metrics\n"
    )
