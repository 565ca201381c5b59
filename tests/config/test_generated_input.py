"""Bad command lines made by rule: each ends at once, in one clear line with status 2, and leaves nothing behind."""

import compileall
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from bad_overrides import RULES, Bad, draw

from evidence import evaluation
from evidence.cli.command_line import main
from evidence.config import limits

ROOT = Path(__file__).resolve().parents[2]
CONF = ROOT / "conf"
ALL, SAMPLE, PROCESSES = 500, 64, 32
SECONDS = 2.0
SEED = 2026


def faults(status: int | None, out: str, err: str) -> list[str]:
    """What is wrong with how a bad command line ended."""
    is_ours = err.startswith("evidence: ") and err.endswith("\n") and err.count("\n") == 1
    is_clear = "Error:" not in err and len(err) < 700 and err.strip().isprintable()
    checks = {
        f"status {status}": status == 2,
        f"said {err[:2000]!r}": is_ours and is_clear,
        "printed": not out,
    }
    return [fault for fault, is_right in checks.items() if not is_right]


def wrong_ends(
    cases: Iterable[Bad], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> list[tuple[Bad, list[str]]]:
    """The cases that did not end as they should, each run in this process in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["run.py"])
    monkeypatch.setitem(sys.modules, "evidence.runs.lifecycle", None)  # a job that starts all the same fails
    wrong = []
    for case in cases:
        status = main([*case.argv], CONF)
        found = faults(status, *capsys.readouterr())
        if left := sorted(tmp_path.iterdir()):
            found.append(f"left {left}")
            shutil.rmtree(tmp_path)
            tmp_path.mkdir()
        if found:
            wrong.append((case, found))
    return wrong


def test_a_sample_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = draw(CONF, SAMPLE, SEED)
    assert {case.rule for case in cases} == {rule.__name__ for rule in RULES}
    assert wrong_ends(cases, tmp_path, monkeypatch, capsys) == []


@pytest.mark.slow
def test_five_hundred_are_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = draw(CONF, ALL, SEED)
    assert len({case.argv for case in cases}) == ALL
    assert wrong_ends(cases, tmp_path, monkeypatch, capsys) == []


@pytest.mark.slow
def test_processes_end_within_two_seconds(tmp_path: Path) -> None:
    """Of the process's own time: a machine may have other work too. Nothing appears in or around the project."""
    project, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    for part in ("src", "conf"):
        shutil.copytree(ROOT / part, project / part)
    shutil.copy(ROOT / "run.py", project)
    compileall.compile_dir(project / "src", quiet=1)  # as after any first start
    elsewhere.mkdir()
    environment = os.environ | {"PYTHONPATH": str(project / "src"), "TMPDIR": str(elsewhere)}
    before = sorted(tmp_path.rglob("*"))
    typed = [case for case in draw(CONF, ALL, SEED) if not any("\0" in word for word in case.argv)]
    wrong = []
    for case in typed[:PROCESSES]:
        words = [sys.executable, str(project / "run.py"), *case.argv]
        start = child_seconds()
        ended = subprocess.run(
            words, cwd=elsewhere, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        found = faults(ended.returncode, ended.stdout, ended.stderr)
        if (taken := child_seconds() - start) > SECONDS:
            found.append(f"took {taken:.1f} s")
        if found:
            wrong.append((case, found))
    assert wrong == []
    assert sorted(tmp_path.rglob("*")) == before


def child_seconds() -> float:
    """What the ended children of this process have computed for, in seconds."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


@pytest.mark.parametrize(
    "argv",
    [
        ["k=1000", "trainer.batch_size=100"],
        ["model.hidden=[[4000,4000]]", "eval.rows=100000"],
        ["objective=uivi", "eval.semi_implicit.noises=100000"],
        ["objective=critic", "objective.critic.hidden=[4000,4000]"],
        ["trainer.stages=null", "trainer.steps=1000000", "trainer.decay=0.9", "trainer.decay_every=1000"],
        [f"name={'x' * 64}", f"paths.outputs={'x' * 255}/{'x' * 255}"],
        ["name='dots.and-dashes, and spaces'", "paths.outputs='../with spaces and ~/x'"],
    ],
    ids=" ".join,
)
def test_what_is_only_large_is_allowed(argv: list[str]) -> None:
    from evidence.config import compose

    arguments, _ = compose.read_arguments(argv)
    compose.settings(compose.compose(CONF, arguments))


def test_sizes_knows_how_many_images_are_scored_at_a_time() -> None:
    assert evaluation.ON_CPU.images == limits.IMAGES_SCORED
