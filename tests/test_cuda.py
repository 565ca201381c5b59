"""What a CUDA device changes: nothing but the rounding. Skipped where there is none."""

import json
from pathlib import Path

import pytest
import torch

from evidence import models, project
from evidence.cli import command_line
from evidence.streams import TEST, TRAINING, Stream, drawing, normal, samples, uniform

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")

CONF = Path(__file__).resolve().parents[1] / "conf"
SMALL = ["data=digits", "trainer=smoke", "eval=smoke", "tracking=none", "device=cuda"]


def start(root: Path, *overrides: str) -> dict[str, float]:
    assert command_line.main([*SMALL, *overrides], CONF) == 0
    (path,) = root.glob("outputs/*/result.json")
    return json.loads(path.read_text())["metrics"]


@pytest.mark.parametrize("objective", ["vae", "iwae", "critic", "uivi", "sivi"])
def test_every_objective_trains_and_is_evaluated(
    objective: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(project, "_root", tmp_path)
    metrics = start(tmp_path, f"objective={objective}", "trainer=smoke", "trainer.steps=60")
    assert 0 < metrics["test/nll"] < 60


def test_log_weights_are_the_cpus_up_to_rounding() -> None:
    model = models.hierarchical(64, [20, 5], [[30], [10]], "tanh", torch.full((64,), 0.3)).double()
    x = (torch.rand(8, 64) < 0.3).double()
    q = model.posterior(x)
    z = q.rsample(q.noise(6))
    here = model.log_joint(x, z) - q.log_prob(z)
    model, x, z = model.cuda(), x.cuda(), z.cuda()
    there = model.log_joint(x, z) - model.posterior(x).log_prob(z)
    torch.testing.assert_close(there.cpu(), here)


@pytest.mark.parametrize("seed", [3, 2**63 - 1])
def test_random_numbers_are_the_cpus(seed: int) -> None:
    def drawn(device: str) -> list[torch.Tensor]:
        like = torch.zeros(1, dtype=torch.float64, device=device)
        images = torch.tensor([5, 9999], device=device)
        with drawing(Stream(seed, TRAINING, 10**9)):
            found = [normal((7, 5), like), uniform((6,), like)]
        with drawing(Stream(seed, TEST, images=images)):
            samples(30, 2)
            return [*found, normal((4, 2, 9), like)]

    for here, there in zip(drawn("cpu"), drawn("cuda"), strict=True):
        torch.testing.assert_close(there.cpu(), here, rtol=0, atol=1e-12)


def test_continued_training_is_uninterrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise is a function of the seed and the step, on a GPU too."""
    monkeypatch.setattr(project, "_root", tmp_path)
    start(tmp_path, "trainer.steps=30")
    assert command_line.main([*SMALL, "trainer.steps=60"], CONF) == 0
    continued = {path.read_text() for path in tmp_path.glob("outputs/*/result.json")}
    (tmp_path / "outputs").rename(tmp_path / "before")
    whole = start(tmp_path, "trainer.steps=60")["test/nll"]
    assert any(abs(json.loads(text)["metrics"]["test/nll"] - whole) < 1e-3 for text in continued)
