"""docs/mlflow.md explains every metric, param and tag that runs log, and no other."""

import re
from pathlib import Path

import pytest
import runs
import torch
from runs import CONF, directories, start

from evidence.config.schema import tags
from evidence.runs import build
from evidence.runs.system import SystemMetrics
from evidence.tracking import contents

pytestmark = pytest.mark.usefixtures("no_figures")
PAGE = (CONF.parent / "docs" / "mlflow.md").read_text()
SMALL = ["trainer.steps=10", "trainer.log_every=10", "eval.samples=20", "tracking=none"]
# Of a posterior with a density and of one without: two layers, for the active units of each, and what is chosen.
RUNS = [
    ["objective=iwae", "model=two_layer", "tracking.system_metrics=true"],
    ["objective=uivi"],
    ["objective=vae", "eval=ais", "eval.images=4", "eval.metrics.ais.num_temperatures=2"],
    ["objective=vae", "model=two_layer", "eval=collapse"],
    ["objective=vae", "eval=gradients", "eval.metrics.snr.num_draws=3", "+data@eval.also.own=digits"],
]
# What an objective reports only where it is chosen.
CHOSEN = [
    ["objective=rws", "objective.encoder=sleep"],
    ["objective=uivi", "objective/reverse_conditional=learned"],
]


def explained(heading: str) -> set[str]:
    """The names in the first column of the table below a heading."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row)}


@pytest.fixture
def logged(root: Path) -> None:
    """Runs that have all that is logged of any, but for what an objective reports."""
    for words in RUNS:
        assert start(*words, *SMALL) == 0


def reported(root: Path) -> set[str]:
    """What a step of each objective reports, and of what is chosen: the forward pass of one image has all of it."""
    objectives = sorted(path.stem for path in CONF.glob("objective/*.yaml"))
    assert len(objectives) >= 5
    found: set[str] = set()
    for words in [*([f"objective={name}"] for name in objectives), *CHOSEN]:
        parts = build.build(runs.settings(*words), torch.device("cpu"), root)
        metrics = parts.objective(parts.model, parts.dataset.valid[:1].float()).metrics
        found |= {name if "/" in name else f"train/{name}" for name in metrics}
    return found


@pytest.mark.usefixtures("logged")
def test_every_metric_and_param_is_explained(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {name for directory in directories(root) for name, _, _ in runs.recorded_rows(directory)}
    assert {"train/iwae", "train/elbo", "hmc/acceptance"} < found
    found |= reported(root)
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
