"""docs/tutorial.md: a reader who writes its files and types its commands, in order, gets what it says."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import documents
import problems
import pytest
import torch

from evidence.objectives import IWAE

PAGE = documents.ROOT / "docs" / "tutorial.md"
BARS, PIXELS = 8.006, 41.82  # nats: the entropy of an image of bars, and that of its pixels one by one


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository in which all of the page was written and typed."""
    pytest.importorskip("zuko", reason="zuko, of the dev extra, is not installed")
    folder = tmp_path_factory.mktemp("tutorial")
    root = documents.copy_of_the_repository(folder)
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    environment = documents.environment(root) | {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    for name in ("EVIDENCE_DATA", "MLFLOW_TRACKING_URI"):
        environment.pop(name, None)
    for path, code in documents.steps(PAGE):
        if path is not None:
            (root / path).write_text(code)
            continue
        ended = subprocess.run(
            ["bash", "-euc", code], cwd=root, env=environment, capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, f"{code}{ended.stdout}{ended.stderr}"
    return root


def metrics(root: Path, pattern: str) -> list[dict[str, float]]:
    """Of the finished runs whose folders have such a name."""
    records = [json.loads(path.read_text()) for path in root.glob(f"outputs/{pattern}/result.json")]
    assert all(record["status"] == "FINISHED" for record in records)
    return [record["metrics"] for record in records]


@pytest.mark.slow
def test_every_sweep_is_trained_over_its_seeds(walked: Path) -> None:
    for name in ("vae-k5-one_layer", "iwae-k5-one_layer", "doubly-k5-one_layer", "iwae-k5-flow"):
        assert len(metrics(walked, f"{name}-digits-*")) == 3, name
    for name in ("vae", "iwae", "doubly"):
        assert len(metrics(walked, f"{name}-k5-one_layer-arrays-*")) == 3, name


@pytest.mark.slow
def test_the_bars_are_scored_near_their_entropy_and_by_the_metric(walked: Path) -> None:
    for found in metrics(walked, "*-arrays-*"):
        assert BARS - 3 * found["test/nll_se"] < found["test/nll"] < PIXELS / 2
        assert 1 / 500 < found["test/largest_weight"] < 1


@pytest.mark.slow
def test_the_latent_space_is_drawn(walked: Path) -> None:
    assert (walked / "latent.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.slow
def test_the_report_has_the_table_and_the_figures_of_a_paper(walked: Path) -> None:
    cells = {"tutorial": ["doubly", "iwae", "iwae", "vae"], "bars": ["doubly", "iwae", "vae"]}
    for experiment, objectives in cells.items():
        folder = walked / "outputs" / "report" / experiment
        rows = re.findall(
            r"^(\w+) & .*\d \$\\pm\$ \d.*\\\\$", (folder / "table.tex").read_text(), re.MULTILINE
        )
        assert rows == objectives
        for name in ("cells.pdf", "curves.pdf"):
            assert (folder / name).read_bytes().startswith(b"%PDF")
    assert r"largest\_weight" in (walked / "outputs" / "report" / "bars" / "table.tex").read_text()


@pytest.fixture
def doubly() -> Callable[[int], Any]:
    """The page's objective."""
    (code,) = (code for path, code in documents.files(PAGE.read_text()) if path == "doubly.py")
    names: dict[str, Any] = {"__name__": "doubly"}
    exec(code, names)
    return names["Doubly"]


def gradients(objective: Any, model: Any, x: torch.Tensor, draws: int) -> dict[str, torch.Tensor]:
    """Of each part of the model, [draws, parameters]."""
    found: dict[str, list[torch.Tensor]] = {"likelihood": [], "posterior": []}
    for _ in range(draws):
        model.zero_grad()
        objective(model, x).surrogate.sum().backward()
        for part, rows in found.items():
            parameters = getattr(model, part).parameters()
            rows.append(torch.cat([parameter.grad.flatten().clone() for parameter in parameters]))
    return {part: torch.stack(rows) for part, rows in found.items()}


@pytest.mark.usefixtures("float64")
def test_the_objective_is_what_the_page_says(doubly: Callable[[int], Any]) -> None:
    """Its decoder's gradient is IWAE's, and so is the mean of its encoder's, which varies less."""
    model, x = problems.linear_gaussian(), problems.images(3)
    torch.manual_seed(0)
    own = gradients(doubly(4), model, x, 2000)
    torch.manual_seed(0)
    iwae = gradients(IWAE(4), model, x, 2000)
    torch.testing.assert_close(own["likelihood"], iwae["likelihood"])
    difference = own["posterior"] - iwae["posterior"]
    error = difference.std(0) / len(difference) ** 0.5
    assert (difference.mean(0).abs() < 4.5 * error).all()
    assert own["posterior"].var(0).sum() < iwae["posterior"].var(0).sum()
