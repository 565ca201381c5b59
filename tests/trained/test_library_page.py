"""What docs/library.md and the README say of a trained model can be typed as it stands there."""

import re
from pathlib import Path
from typing import Any

import pytest
import runs
import torch

import evidence
from evidence import data, trained
from evidence.config import compose

ROOT = Path(__file__).resolve().parents[2]
NAME = "iwae-k50-one_layer-mnist-s0-060c30"


def blocks(path: str) -> list[str]:
    """The examples that use the package as a library, with the name of the one run that there is."""
    found = re.findall(r"```python\n(.*?)```", (ROOT / path).read_text(), re.DOTALL)
    assert found
    return [block for block in found if "class " not in block]


@pytest.fixture
def typed(root: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs an example, after a run of digits whose samples are kept."""
    from evidence.display import plots

    drawn: dict[str, Any] = {}
    with monkeypatch.context() as patch:
        patch.setattr(plots, "image_grid", lambda images, *_: drawn.update(images=images))
        assert runs.start("tracking=none") == 0
    names: dict[str, Any] = {"x": data.digits(64, "stochastic").test[:3], "drawn": drawn}

    def exec_example(code: str) -> dict[str, Any]:
        code = code.replace('data.mnist("data", 784,', "data.digits(64,")
        exec(code.replace(NAME, runs.only_directory(root).folder.name), names)
        return names

    return exec_example


def test_the_page_can_be_typed(typed: Any) -> None:
    *others, training = blocks("docs/library.md")
    for block in others:
        names = typed(block)
    assert names["run"].step == 60
    assert torch.equal(names["images"], names["drawn"]["images"].flatten(1))
    assert names["z"].shape == (10, 3, 50)
    assert names["means"].shape == (300, 50)
    (points, *_) = names["pyplot"].gca().collections or names["pyplot"].gcf().axes[0].collections
    assert points.get_array().tolist() == names["dataset"].labels.test.tolist()
    names["pyplot"].close("all")
    assert names["again"].shape == (3, 64)
    assert names["log_p"].shape == (3,)
    assert names["log_w"].shape == (100, 3)
    assert {*names["curve"].columns} >= {"valid/nll", "train/iwae"}
    assert {*names["state"]} >= {"model", "objective", "optimizer"}
    assert training.startswith("run = evidence.run([")
    assert typed(training)["run"].config["objective"]["name"] == "vae"


def test_the_readme_can_be_typed(typed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def checked(words: list[str]) -> None:
        assert compose.request(runs.CONF, compose.read_arguments(words)[0]).jobs

    monkeypatch.setattr(trained, "run", checked)
    (block,) = blocks("README.md")
    assert "evidence.run(" in block
    typed(block)


def test_the_package_says_that_it_has_types() -> None:
    assert (Path(evidence.__file__).parent / "py.typed").is_file()
