"""The README's worked example: its two files, as printed, make a working objective that is what it claims."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import problems
import pytest
import torch

from evidence.objectives import ELBO, IWAE

ROOT = Path(__file__).resolve().parents[1]


def example() -> dict[str, str]:
    """The README's Python and YAML blocks."""
    text = (ROOT / "README.md").read_text()
    return dict(re.findall(r"```(python|yaml)\n(.*?)```", text, re.DOTALL))


@pytest.fixture
def renyi(tmp_path: Path) -> Any:
    path = tmp_path / "renyi.py"
    path.write_text(example()["python"])
    spec = importlib.util.spec_from_file_location("renyi", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Renyi


def test_the_example_is_under_forty_lines() -> None:
    assert sum(len(code.splitlines()) for code in example().values()) < 40


@pytest.mark.usefixtures("float64")
def test_the_examples_bound_lies_between_the_elbo_and_the_iwaes(renyi: Any) -> None:
    model, x = problems.linear_gaussian(), problems.images(5)

    def value(objective: Any) -> torch.Tensor:
        torch.manual_seed(3)
        return objective(model, x).surrogate

    torch.testing.assert_close(value(renyi(6, 0.0)), value(IWAE(6)))
    torch.testing.assert_close(value(renyi(6, 1 - 1e-7)), value(ELBO(6)), rtol=1e-4, atol=1e-4)
    assert (value(renyi(6, 0.0)) > value(renyi(6, 0.5))).all()
    assert (value(renyi(6, 0.5)) > value(ELBO(6))).all()
    problems.assert_differentiable(model, renyi(3, 0.5), x)


def test_the_example_runs_from_the_command_line(tmp_path: Path) -> None:
    shutil.copy(ROOT / "run.py", tmp_path)
    (tmp_path / "src").symlink_to(ROOT / "src")
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    (tmp_path / "renyi.py").write_text(example()["python"])
    (tmp_path / "conf" / "objective" / "renyi.yaml").write_text(example()["yaml"])
    overrides = [
        "objective=renyi",
        "objective.alpha=0.2",
        "data=digits",
        "trainer=smoke",
        "eval=smoke",
        "tracking=none",
    ]
    done = subprocess.run(
        [sys.executable, "run.py", *overrides, "trainer.steps=20"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.glob("outputs/renyi-k10-one_layer-digits-s0-*/result.json")
    assert json.loads(path.read_text())["status"] == "FINISHED"
    assert "renyi" in done.stderr
    assert "test NLL" in done.stdout
