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

from evidence.distributions import kl_divergence

ROOT = Path(__file__).resolve().parents[1]


def example() -> dict[str, str]:
    """The README's Python and YAML blocks."""
    text = (ROOT / "README.md").read_text()
    return dict(re.findall(r"```(python|yaml)\n(.*?)```", text, re.DOTALL))


@pytest.fixture
def beta_vae(tmp_path: Path) -> Any:
    path = tmp_path / "beta.py"
    path.write_text(example()["python"])
    spec = importlib.util.spec_from_file_location("beta", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.BetaVAE


def test_the_example_is_under_forty_lines() -> None:
    assert sum(len(code.splitlines()) for code in example().values()) < 40


@pytest.mark.usefixtures("float64")
def test_the_example_is_the_elbo_less_a_multiple_of_the_kl(beta_vae: Any) -> None:
    """Exactly: both are known for Gaussians."""
    model, x = problems.linear_gaussian(), problems.images(5)
    q, p = model.posterior(x), model.prior()
    kl = kl_divergence(q, p)
    for beta in (1.0, 3.0):
        exact = problems.exact_elbo(model, x) - (beta - 1) * kl
        draws = torch.stack([beta_vae(50, beta)(model, x).surrogate.detach() for _ in range(400)])
        assert problems.deviation(draws, exact.detach()) < 5
    problems.assert_differentiable(model, beta_vae(3, 3.0), x)


def test_the_example_runs_from_the_command_line(tmp_path: Path) -> None:
    shutil.copy(ROOT / "run.py", tmp_path)
    (tmp_path / "src").symlink_to(ROOT / "src")
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    (tmp_path / "beta.py").write_text(example()["python"])
    (tmp_path / "conf" / "objective" / "beta.yaml").write_text(example()["yaml"])
    overrides = [
        "objective=beta",
        "objective.beta=2",
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
    (path,) = tmp_path.glob("outputs/beta-k1-one_layer-digits-s0-*/result.json")
    assert json.loads(path.read_text())["status"] == "FINISHED"
    assert "beta" in done.stderr
    assert "test NLL" in done.stdout
