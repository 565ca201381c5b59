"""`python -m experiments`: a study's sweeps one after another, what is measured then, and the report at the end."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from evidence import project
from evidence.errors import UserError
from evidence.report import command
from evidence.report.study import Budget, Findings, Study, discovered

ROOT = Path(__file__).resolve().parents[2]
SMALL = ["data=digits", "trainer=smoke", "trainer.steps=20", "eval=smoke", "eval.images=20", "tracking=none"]


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """What the command has done, in words; its report goes to the test's folder."""
    said: list[str] = []

    def write(studies: object, keep: bool) -> tuple[Path, str]:
        said.append(f"report, keep={keep}")
        return tmp_path / "index.html", ""

    monkeypatch.setattr(project, "_root", ROOT)
    monkeypatch.setattr(command, "_report", lambda: tmp_path)
    monkeypatch.setattr(command, "write", write)
    return said


def study(done: list[str], *sweeps: list[str]) -> Study:
    def each(budget: Budget) -> Iterator[list[str]]:
        for number, arguments in enumerate(sweeps, 1):
            done.append(f"{budget} sweep {number}")
            yield arguments

    def measure(folder: Path, budget: Budget) -> None:
        done.append(f"{budget} measured in {folder.name}")

    empty = Findings(pd.DataFrame(), pd.DataFrame(), [], [], [])
    return Study("made_up", "made-up", "Title", "Claim.", "Source", {}, each, lambda *_: empty, measure)


def run(monkeypatch: pytest.MonkeyPatch, made: Study, *arguments: str) -> int:
    monkeypatch.setattr(command, "discovered", lambda _: [made])
    monkeypatch.setattr(sys, "argv", ["experiments", *arguments])
    return command.main(Path())


def test_sweeps_are_run_in_turn_then_comes_the_measuring_and_the_report(
    done: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = [*SMALL, f"paths.outputs={tmp_path}"]
    made = study(done, [*small, "seed=1"], [*small, "seed=2"])
    assert run(monkeypatch, made, "made-up", "--budget", "day", "--keep") == 0
    assert done == ["day sweep 1", "day sweep 2", "day measured in made_up", "report, keep=True"]
    assert len(list(tmp_path.glob("*/result.json"))) == 2


def test_a_failed_sweep_ends_its_study_and_is_told(
    done: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    made = study(done, ["objective=unknown"], SMALL)
    assert run(monkeypatch, made, "reproduce") == 1
    assert done == ["quick sweep 1", "report, keep=False"]
    launcher_overrides = capfd.readouterr().err
    assert "unknown choice 'objective=unknown'" in launcher_overrides
    assert launcher_overrides.endswith("evidence: not finished: made-up; the same command goes on\n")


@pytest.mark.parametrize("when", ["sweeping", "measuring"])
def test_ctrl_c_is_one_line(
    when: str, done: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Interrupted:
        """A sweep that heard the Ctrl-C itself."""

        def __init__(self, _: object) -> None: ...

        def wait(self) -> int:
            return 130

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    made = study(done, SMALL) if when == "sweeping" else study(done)._replace(measure=interrupt)
    assert run(monkeypatch, made, "made-up") == 130
    assert capsys.readouterr().err == "\nevidence: interrupted; the same command goes on\n"


def test_a_store_that_cannot_be_read_is_one_line(
    done: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise UserError("the MLflow store cannot be used")

    monkeypatch.setattr(command, "write", fail)
    assert run(monkeypatch, study(done), "report") == 2
    assert capsys.readouterr().err == "evidence: the MLflow store cannot be used\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["tabel1"], "target: 'tabel1' (choose from"),
        (["table1", "--budget", "big"], "--budget: 'big' (choose from"),
    ],
)
def test_an_unknown_target_or_budget_is_one_line_with_the_choices(arguments: list[str], words: str) -> None:
    program = [sys.executable, "-m", "experiments", *arguments]
    process = subprocess.run(program, capture_output=True, text=True, cwd=ROOT)
    assert process.returncode == 2
    (line,) = process.stderr.splitlines()
    assert words in line


NEW_STUDY = """
from experiments.iwae_table3.study import STUDY as TABLE_3
STUDY = TABLE_3._replace(name={name!r}, order={order})
"""


@pytest.fixture
def studies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of no studies yet, which is a package."""
    folder = tmp_path / f"studies_{tmp_path.name}"
    folder.mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    return folder


def test_a_study_is_found_by_its_file_and_stands_where_it_says(studies: Path) -> None:
    for name, order in (("last", 9), ("b", 1), ("a", 1)):
        (studies / name).mkdir()
        (studies / name / "study.py").write_text(NEW_STUDY.format(name=name, order=order))
    (studies / "no_study").mkdir()
    assert [found.name for found in discovered(studies)] == ["a", "b", "last"]


@pytest.mark.parametrize("content", ["", "STUDY = None", NEW_STUDY.format(name="another", order=1)])
def test_a_file_without_a_study_of_its_folders_name_is_one_line(
    content: str, studies: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (studies / "mine").mkdir()
    (studies / "mine" / "study.py").write_text(content)
    assert command.main(studies) == 2
    expected = (
        f"evidence: {studies / 'mine' / 'study.py'}: it must define STUDY, a Study whose name is mine\n"
    )
    assert capsys.readouterr().err == expected
