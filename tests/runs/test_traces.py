"""What an earlier command leaves in a run's folder, and what a command says of itself, is so."""

from pathlib import Path

import pytest
from runs import assert_ends_as, at_step, begin, interrupt, mlflow_runs, only_directory, said, start

from evidence import execution, stack
from evidence.runs import fit

pytestmark = pytest.mark.usefixtures("no_figures")


def fail(*_: object) -> None:
    raise ZeroDivisionError("in the user's own model")


def contents(folder: Path) -> dict[str, bytes]:
    """The record, its settings and its traceback."""
    names = ("result.json", "config.yaml", "traceback.txt")
    return {name: (folder / name).read_bytes() for name in names if (folder / name).exists()}


def test_the_traceback_is_there_while_the_record_is_failed(
    root: Path, undisturbed: dict[str, float], capsys: pytest.CaptureFixture[str]
) -> None:
    with at_step(40, fail):
        assert start() == 1
    directory = only_directory(root)
    assert "ZeroDivisionError" in directory.traceback.read_text()
    begin()
    assert directory.read().status == "KILLED"
    assert not directory.traceback.exists()
    assert start() == 0
    assert not directory.traceback.exists()
    said(capsys)
    assert_ends_as(root, undisturbed)


def no_compiler(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(execution, "_has_compiler", lambda: False)
    return start("compile=true")


def interrupted_trial(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(fit.first_step, "check", interrupt)
    return start()


@pytest.mark.parametrize(("again", "status"), [(no_compiler, 1), (interrupted_trial, 130)])
@pytest.mark.parametrize("first", ["KILLED", "FAILED"])
def test_a_command_that_ends_before_it_trains_leaves_the_record_as_it_was(
    first: str,
    again: object,
    status: int,
    root: Path,
    undisturbed: dict[str, float],
    capsys: pytest.CaptureFixture[str],
) -> None:
    with at_step(60, interrupt if first == "KILLED" else fail):
        assert start() == (130 if first == "KILLED" else 1)
    directory = only_directory(root)
    before = contents(directory.folder)
    with pytest.MonkeyPatch.context() as patch:
        assert again(patch) == status  # type: ignore[operator]
    assert directory.read().status == first
    assert contents(directory.folder) == before
    (run,) = mlflow_runs()
    assert run.info.status == first
    assert start() == 0
    said(capsys)
    assert_ends_as(root, undisturbed)


def test_a_fault_before_training_is_recorded(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    begin()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit.first_step, "check", fail)
        assert start() == 1
    assert only_directory(root).read().status == "FAILED"
    assert "ZeroDivisionError" in only_directory(root).traceback.read_text()
    said(capsys)


@pytest.mark.parametrize(
    ("paying", "first_step", "is_said"), [(60, 0, True), (61, 0, False), (60, 20, False)]
)
def test_compiling_is_said_to_save_time_where_that_many_steps_are_left(
    paying: int,
    first_step: int,
    is_said: bool,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(execution, "PAYING_STEPS", paying)
    monkeypatch.setattr(stack, "fused_step", lambda step: step)
    monkeypatch.setattr(execution, "_has_compiler", lambda: True)
    if first_step:
        with at_step(first_step + 20, interrupt):
            assert start("compile=true") == 130
        said(capsys)
    assert start("compile=true") == 0
    lines = [line for line in said(capsys) if "compiles its steps first: 10 to 20 s" in line]
    assert [line.endswith("of which they save more") for line in lines] == [is_said]
