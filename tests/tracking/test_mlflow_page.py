"""docs/mlflow.md explains every metric, param and tag that runs log, and no other."""

import re
from pathlib import Path

import pytest
import runs
import torch
from runs import CONF, directories, start

from evidence.config.schema import tags
from evidence.runs.system import SystemMetrics
from evidence.tracking import contents

pytestmark = pytest.mark.usefixtures("no_figures")
PAGE = (CONF.parent / "docs" / "mlflow.md").read_text()
# A second stochastic layer, for its active units, and what the system does.
MORE = {"iwae": ["model=two_layer", "tracking.system_metrics=true"]}
# What an objective or an evaluation logs only where it is chosen.
CHOSEN = [
    ["objective=rws", "objective.encoder=sleep"],
    ["objective=uivi", "objective/reverse_conditional=learned"],
    ["objective=vae", "eval=ais", "eval.images=4", "eval.metrics.ais.num_temperatures=2"],
    ["objective=vae", "model=two_layer", "eval=collapse"],
    ["objective=vae", "eval=gradients", "eval.metrics.snr.num_draws=3", "+data@eval.also.own=digits"],
]


def explained(heading: str) -> set[str]:
    """The names in the first column of the table below a heading."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row)}


@pytest.fixture
def logged(root: Path) -> None:
    """A run of each objective, and of what is chosen."""
    objectives = sorted(path.stem for path in CONF.glob("objective/*.yaml"))
    assert len(objectives) >= 5
    for words in [*([f"objective={name}", *MORE.get(name, [])] for name in objectives), *CHOSEN]:
        small = ["trainer.steps=10", "trainer.log_every=10", "eval.samples=20", "tracking=none"]
        assert start(*words, *small) == 0


@pytest.mark.usefixtures("logged")
def test_every_metric_and_param_is_explained(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {name for directory in directories(root) for name, _, _ in runs.recorded_rows(directory)}
    also = {name for name in found if name.startswith("test_own/")}  # of eval.also, named as those of test/
    assert {"test_own/nll", "test_own/nll_se"} < also
    assert {name.replace("test_own/", "test/") for name in also} < found
    found = found - also | {"test_<name>/nll"}
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 2**30)
    of_gpu = SystemMetrics(torch.device("cuda")).measure()
    assert of_gpu["system/gpu_memory_mb"] == 1024
    assert explained("Every metric") == found | of_gpu.keys()
    params = {name for each in directories(root) for name in contents.params(each, contents.record_of(each))}
    dotted = {name for name in params if "." in name}
    assert explained("Every param") == params - dotted
    assert "trainer.learning_rate" in dotted


def test_every_tag_is_explained() -> None:
    assert explained("Every tag") == tags.OWN


def test_the_pictures_are_there_and_small() -> None:
    pictures = re.findall(r"!\[.+\]\((images/.+\.png)\)", PAGE)
    assert len(pictures) == 4
    assert all((CONF.parent / "docs" / each).stat().st_size < 200_000 for each in pictures)


def test_the_system_is_measured_while_it_works() -> None:
    system = SystemMetrics(torch.device("cpu"))
    for _ in range(20):
        torch.randn(300, 300) @ torch.randn(300, 300)
    found = system.measure()
    assert found["system/cpu_percent"] > 1
    assert 50 < found["system/memory_mb"] < 100_000
    assert "system/gpu_memory_mb" not in found
