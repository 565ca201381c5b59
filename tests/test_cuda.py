"""What a CUDA device changes: nothing but the rounding. Skipped where there is none."""

import json
from functools import partial
from pathlib import Path

import pytest
import torch
from objective_cases import CASES, SEEDS, X, assert_same

from evidence import models, project
from evidence.captured import Replay
from evidence.cli import command_line
from evidence.data import Batches
from evidence.errors import UserError
from evidence.parts import Parts
from evidence.stack import Member, Stack
from evidence.stack import train as stack_train
from evidence.streams import TEST, TRAINING, Stream, drawing, normal, samples, uniform
from evidence.training import Segment, parameter_groups, train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")

CONF = Path(__file__).resolve().parents[1] / "conf"
SMALL = ["data=digits", "trainer=smoke", "eval=smoke", "tracking=none", "device=cuda"]


def start(root: Path, *overrides: str) -> dict[str, float]:
    assert command_line.main([*SMALL, *overrides], CONF) == 0
    (path,) = root.glob("outputs/*/result.json")
    return json.loads(path.read_text())["metrics"]


@pytest.mark.parametrize("objective", sorted(path.stem for path in (CONF / "objective").glob("*.yaml")))
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


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("case", CASES)
def test_captured_steps_end_as_the_loop_on_the_cpu(case: str, number: int, compiled: bool) -> None:
    """45 steps: the first as they are, then twenty at a time, then one at a time, over the ends of passes."""
    images = (torch.arange(150 * X) % 5).to(torch.uint8).view(150, X)
    schedule = [Segment(25, 1e-2), Segment(45, 5e-3)]

    def made(device: str) -> Parts:
        torch.manual_seed(5)
        model, objective = CASES[case]()
        if (part := objective.compiled_part) is not None:
            part.is_compiled = compiled and number == 1
        model, objective = model.to(device), objective.to(device)
        optimizer = torch.optim.Adam(parameter_groups(model, objective, 0.2), lr=1.0)  # type: ignore[arg-type]
        return Parts(None, None, model, objective, optimizer, schedule)  # type: ignore[arg-type]

    members, seeds = [made("cuda") for _ in range(number)], SEEDS[:number]
    own = [Batches(images.cuda(), 4, 6, seed) for seed in seeds]
    together = [Member(*each) for each in zip(members, seeds, own, strict=True)]
    is_fused = compiled and members[0].objective.is_compilable
    stack = Stack(together, "sum", 0, is_fused, partial(Replay, device=torch.device("cuda", 0)))
    for _ in stack_train(stack, [schedule] * number, 25):
        pass
    for parts, seed in zip(members, seeds, strict=True):
        single = made("cpu")
        batches = Batches(images, 4, 6, seed).after(0)
        list(train(single.model, single.objective, single.optimizer, batches, schedule, "sum", 25, seed=seed))
        for ours, expected in ((parts.model, single.model), (parts.objective, single.objective)):
            found = {name: value.cpu() for name, value in ours.state_dict().items()}
            assert_same(found, expected.state_dict())


def test_a_step_that_cannot_be_captured_says_what_to_choose() -> None:
    value = torch.ones(3, device="cuda")
    replay = Replay(lambda: value.mul_(value.mean().item()), torch.device("cuda", 0))
    with pytest.raises(UserError, match=r"cannot be captured as a CUDA graph \(.+\): choose compile=false"):
        replay(30)
    assert torch.cuda.current_stream() == torch.cuda.default_stream()
    assert value.isfinite().all()  # the device still computes


def test_a_sweep_packs_its_jobs_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Different cells compute side by side, each captured, and end as they do alone."""
    monkeypatch.setattr(project, "_root", tmp_path)
    words = [*SMALL, "objective=vae,iwae", "seed=0,1", "trainer.steps=200", "compile=true"]
    assert command_line.main(["-m", *words], CONF) == 0
    found = {
        path.parent.name: json.loads(path.read_text()) for path in tmp_path.glob("outputs/*/result.json")
    }
    assert all(each["execution"]["captured"] for each in found.values())
    logs = [path.read_text() for path in tmp_path.glob("outputs/*/run.log")]
    assert all("in a stack of 2 runs, captured and replayed" in text for text in logs)
    (tmp_path / "outputs").rename(tmp_path / "before")
    assert command_line.main(["-m", *words, "hydra/launcher=basic"], CONF) == 0
    for path in tmp_path.glob("outputs/*/result.json"):
        alone, together = json.loads(path.read_text())["metrics"], found[path.parent.name]["metrics"]
        assert together["test/nll"] == pytest.approx(alone["test/nll"], rel=1e-3)


def test_continued_training_is_uninterrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise is a function of the seed and the step, on a GPU too."""
    monkeypatch.setattr(project, "_root", tmp_path)
    start(tmp_path, "trainer.steps=30")
    assert command_line.main([*SMALL, "trainer.steps=60"], CONF) == 0
    continued = {path.read_text() for path in tmp_path.glob("outputs/*/result.json")}
    (tmp_path / "outputs").rename(tmp_path / "before")
    whole = start(tmp_path, "trainer.steps=60")["test/nll"]
    assert any(abs(json.loads(text)["metrics"]["test/nll"] - whole) < 1e-3 for text in continued)
