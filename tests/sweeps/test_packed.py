"""hydra/launcher=packed: jobs that train together, each with its own record, as if it were alone."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import runs
import torch
from runs import SMALL, mlflow_runs, numbers, recorded_rows, stored_rows

from evidence import hmc, project
from evidence.cli.command_line import main
from evidence.display.terminal import SharedProgress
from evidence.objectives import reverse_conditional
from evidence.records.directory import RunDirectory
from evidence.records.record import Record
from evidence.runs import driver
from evidence.stack import Stack

ROOT = Path(__file__).resolve().parents[2]
PACKED = ["-m", *SMALL, "hydra/launcher=packed", "seed=0,1,2"]
CELLS = "objective=vae,iwae"


@pytest.fixture(autouse=True)
def _argv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["run.py"])


def sweep(*words: str) -> int:
    return main([*PACKED, *words], runs.CONF)


def by_name(root: Path) -> dict[str, RunDirectory]:
    return {directory.folder.name: directory for directory in runs.directories(root)}


def seed_of(directory: RunDirectory) -> int:
    return int(directory.settings["seed"])


def assert_finished(directory: RunDirectory, expected: RunDirectory) -> None:
    """Its record is complete, and its numbers are those of the run alone, to rounding."""
    assert directory.read().status == "FINISHED"
    assert numbers(directory) == pytest.approx(numbers(expected), rel=1e-4)
    rows, others = directory.read_metrics(), expected.read_metrics()
    assert [(name, step) for name, _, step in rows] == [(name, step) for name, _, step in others]
    sizes = [{n: p.stat().st_size for n, p in each.checkpoints().items()} for each in (directory, expected)]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.05)  # its own state, and nobody else's
    assert list(directory.folder.rglob("*.tmp")) == []
    log = directory.log.read_text()
    assert log.count("status FINISHED") == 1
    assert log.count("test/nll") == 1


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunDirectory]:
    """The same runs, one after the other."""
    root = tmp_path_factory.mktemp("alone")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["run.py"])
        patch.setattr(project, "_root", root)
        assert main(["-m", *SMALL, "tracking=none", "seed=0,1,2", CELLS], runs.CONF) == 0
    return by_name(root)


def test_each_run_has_the_record_and_the_numbers_that_it_has_alone(
    root: Path, alone: dict[str, RunDirectory], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    real = Stack.__init__

    def counted(self: Stack, members: Any, *rest: Any) -> None:
        sizes.append(len(members))
        real(self, members, *rest)

    monkeypatch.setattr(Stack, "__init__", counted)
    assert sweep(CELLS) == 0
    assert sizes == [3, 3]  # a stack for each cell
    found = by_name(root)
    assert found.keys() == alone.keys()
    for name, directory in found.items():
        assert_finished(directory, alone[name])
        assert "from step 0 in a stack of 3 runs" in directory.log.read_text()
    names = {run.info.run_name: run for run in mlflow_runs()}
    assert names.keys() == found.keys()
    for name, run in names.items():
        assert run.info.status == "FINISHED"
        assert stored_rows(run) == recorded_rows(found[name])


def test_runs_of_other_learning_rates_are_stacked_too(
    root: Path, no_figures: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["tracking=none", "objective=vae", "trainer.learning_rate=1e-3,2e-3", "seed=0,1"]
    assert sweep(*words) == 0
    for directory in runs.directories(root):
        assert "from step 0 in a stack of 4 runs" in directory.log.read_text()
    together = {name: numbers(directory) for name, directory in by_name(root).items()}
    (root / "outputs").rename(root / "before")
    assert main(["-m", *SMALL, *words], runs.CONF) == 0
    assert together.keys() == by_name(root).keys()
    for name, directory in by_name(root).items():
        assert together[name] == pytest.approx(numbers(directory), rel=1e-4)


def test_a_finished_one_is_not_computed_again_and_another_joins(
    root: Path, alone: dict[str, RunDirectory], no_figures: None
) -> None:
    words = ["tracking=none", "objective=vae"]
    assert main([*SMALL, *words, "seed=1"], runs.CONF) == 0
    (first,) = runs.directories(root)
    before = first.read()
    assert sweep(*words) == 0
    after = first.read()
    assert after.sweep is not None  # nothing else is new
    assert after.model_copy(update={"sweep": None}) == before.model_copy(update={"sweep": None})
    for name, directory in by_name(root).items():
        assert_finished(directory, alone[name])


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs g++")
def test_chains_are_compiled_for_runs_alone_only(
    root: Path, no_figures: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch.vmap takes them as they stand. Two runs are at a step where the third is not."""
    used: list[int] = []

    def counted(*given: Any) -> Any:
        used.append(1)
        return hmc.step(*given)

    monkeypatch.setattr(reverse_conditional, "_fused_iteration", lambda: counted)
    words = ["tracking=none", "objective=uivi", "model=semi_implicit", "compile=true"]
    for seed in (0, 1):
        assert main([*SMALL, *words, f"seed={seed}", "trainer.steps=40", "compile=false"], runs.CONF) == 0
    assert used == []
    assert sweep(*words) == 0
    assert len(used) == 60 * 10  # steps and iterations of seed 2
    logs = [each.log.read_text() for each in by_name(root).values()]
    assert sum("from step 40 in a stack of 2 runs" in text for text in logs) == 2


def test_runs_that_meet_at_a_step_are_stacked_from_there(
    root: Path, alone: dict[str, RunDirectory], no_figures: None
) -> None:
    """An IWAE that ends early makes the groups anew, while two VAEs at one step have steps on their way."""
    for words in (["objective=vae", "trainer.steps=10"], ["objective=iwae", "trainer.steps=40"]):
        assert main([*SMALL, "tracking=none", "seed=0", *words], runs.CONF) == 0
    shorter = by_name(root).keys()
    assert sweep("tracking=none", CELLS) == 0
    found = {name: each for name, each in by_name(root).items() if name not in shorter}
    for name, directory in found.items():
        assert numbers(directory) == pytest.approx(numbers(alone[name]), rel=1e-4)
    logs = [each.log.read_text() for each in found.values() if each.settings["objective"]["name"] == "vae"]
    assert [text.count("in a stack of 3 runs") for text in logs] == [1, 1, 1]


def test_one_that_fails_leaves_the_others_alone(
    root: Path, alone: dict[str, RunDirectory], no_figures: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full for seed 1, and seed 2 diverges."""
    save, report = RunDirectory.save_checkpoint, Stack.report

    def full(self: RunDirectory, state: dict[str, Any], for_good: Any) -> None:
        if seed_of(self) == 1 and state["step"] == 40:
            raise OSError(errno.ENOSPC, "No space left on device")
        save(self, state, for_good)

    def poisoned(self: Stack, *given: Any, **named: Any) -> Any:
        found = report(self, *given, **named)
        for member in self._members:
            if self.step == 20 and member.seed == 2:
                with torch.no_grad():
                    next(member.parts.model.parameters()).fill_(torch.nan)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(RunDirectory, "save_checkpoint", full)
        patch.setattr(Stack, "report", poisoned)
        assert sweep("tracking=none", "objective=vae") == 1
    found = {seed_of(directory): directory for directory in runs.directories(root)}
    assert {seed: directory.read().status for seed, directory in found.items()} == {
        0: "FINISHED",
        1: "FAILED",
        2: "FAILED",
    }
    assert "No space left" in str(found[1].read().error)
    assert "training has diverged" in str(found[2].read().error)
    assert sweep("tracking=none", "objective=vae") == 0
    for name, directory in by_name(root).items():
        assert directory.read().status == "FINISHED"
        assert numbers(directory) == pytest.approx(numbers(alone[name]), rel=1e-4)


def test_what_interrupts_all_of_them_kills_each_and_all_go_on_in_other_company(
    root: Path, alone: dict[str, RunDirectory], no_figures: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    update = SharedProgress.update

    def interrupted(self: SharedProgress, number: int, step: int, *rest: Any) -> None:
        if step == 60:
            raise KeyboardInterrupt
        update(self, number, step, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(SharedProgress, "update", interrupted)
        assert sweep("objective=vae") == 130
    found = runs.directories(root)
    assert [directory.read().status for directory in found] == ["KILLED"] * 3
    assert {run.info.status for run in mlflow_runs()} == {"KILLED"}
    assert main([*SMALL, "objective=vae", "seed=2"], runs.CONF) == 0  # alone
    assert sweep("objective=vae") == 0
    for name, directory in by_name(root).items():
        assert "from step 40" in directory.log.read_text()
        assert numbers(directory) == pytest.approx(numbers(alone[name]), rel=1e-4)
    assert {run.info.status for run in mlflow_runs()} == {"FINISHED"}


LONG = ["tracking=none", "objective=vae", "trainer.steps=100000", "compile=false"]
KILLED = """
import sys
from pathlib import Path
import runs
from evidence.cli.command_line import main
from evidence import project
project.work_in(Path({root!r}))
sys.argv = ["run.py"]
sys.exit(main({words!r}, runs.CONF))
"""


def test_a_sweep_that_is_killed_goes_on_when_typed_again(
    root: Path, alone: dict[str, RunDirectory], no_figures: None
) -> None:
    code = KILLED.format(root=str(root), words=[*PACKED, *LONG])
    path = os.pathsep.join(map(str, (ROOT / "tests" / "helpers", ROOT / "src", ROOT)))
    process = subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.DEVNULL
    )
    reached: list[int] = []
    while len(reached) < 3 or min(reached) < 60:
        assert process.poll() is None
        time.sleep(0.05)
        reached = [max(directory.checkpoints(), default=0) for directory in runs.directories(root)]
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert sweep("tracking=none", "objective=vae") == 0
    finished = [each for each in runs.directories(root) if each.read().status == "FINISHED"]
    assert len(finished) == 3
    for directory in finished:
        assert numbers(directory) == pytest.approx(numbers(alone[directory.folder.name]), rel=1e-4)


def test_a_run_that_another_process_computes_comes_last(
    root: Path, alone: dict[str, RunDirectory], no_figures: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two packed sweeps that share runs in another order would wait for each other for ever."""
    names = sorted(name for name in alone if name.startswith("vae"))
    first, *others = (RunDirectory(root / "outputs" / name) for name in names)
    in_time = []

    def finish_later() -> None:
        with first.locked(waits=False):
            is_held.set()
            ends = time.monotonic() + 100
            while time.monotonic() < ends and not in_time:
                if all((each.read() or Record()).status == "FINISHED" for each in others):
                    in_time.append(True)
                time.sleep(0.05)

    is_held, holder = threading.Event(), threading.Thread(target=finish_later)
    holder.start()
    is_held.wait()
    assert sweep("tracking=none", "objective=vae") == 0
    holder.join()
    assert in_time
    said = [line for line in capsys.readouterr().err.splitlines() if line.endswith(": waiting")]
    assert len(said) == 1
    assert f"{first.folder.name} is being computed by process" in said[0]
    for directory in (first, *others):
        assert_finished(directory, alone[directory.folder.name])


def test_what_cannot_be_stacked_trains_beside_the_others(
    root: Path, no_figures: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "why_not", lambda parts: "told so")
    assert sweep("tracking=none", "objective=vae") == 0
    assert [directory.read().status for directory in runs.directories(root)] == ["FINISHED"] * 3
