"""A trained model is built again as it was made, and a line says where that cannot be."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
import runs
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
