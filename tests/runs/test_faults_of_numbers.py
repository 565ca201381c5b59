"""Numbers that are not what they seem: NaN in the parameters, and code that changes under a run."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from runs import (
    assert_ends_as,
    at_step,
    begin,
    client,
    directories,
    mlflow_runs,
    numbers,
    only_directory,
    said,
    start,
)

from evidence.models import LatentVariableModel
from evidence.records.checkpoints import load
from evidence.runs import fit

pytestmark = pytest.mark.usefixtures("no_figures")


POISONED = "model.likelihood.logits.0.0.weight"


@torch.no_grad()
def poison(model: LatentVariableModel) -> None:
    next(model.parameters())[0, 0] = torch.nan


def poison_before_measuring(monkeypatch: pytest.MonkeyPatch) -> None:
    real = fit.score

    def score(run: fit.Run) -> dict[str, float]:
        poison(run.parts.model)
        return real(run)

    monkeypatch.setattr(fit, "score", score)


@pytest.mark.parametrize(
    ("moment", "checkpoints", "complaint", "last_good"),
    [
        (20, "seldom", "iwae is nan in the 20 steps before step 40", 0),
        (40, "often", f"{POISONED} is not finite after step 40", 20),
        (60, "often", f"{POISONED} is not finite after step 60", 40),
        (None, "often", f"{POISONED} is not finite after step 60", 60),
    ],
    ids=["in mid-training", "before a checkpoint", "after the last step", "after the last checkpoint"],
)
def test_a_nan_fails_the_run_by_name_and_spares_the_checkpoints(
    moment: int | None,
    checkpoints: str,
    complaint: str,
    last_good: int,
    root: Path,
    undisturbed: dict[str, float],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with monkeypatch.context() as patch, at_step(moment or -1, poison):
        if moment is None:
            poison_before_measuring(patch)
        assert start(*(["trainer.checkpoint_seconds=600"] if checkpoints == "seldom" else [])) == 1
    (line,) = said(capsys)
    assert line.startswith(f"evidence: {complaint}: training has diverged; the last good checkpoint is kept")
    directory = only_directory(root)
    assert directory.read().status == "FAILED"
    assert complaint in directory.read().error
    assert directory.read().metrics == {}
    assert max(directory.checkpoints()) == last_good
    state = load(directory.checkpoints()[last_good])
    assert all(value.isfinite().all() for value in state["model"].values())
    assert "Traceback" in directory.traceback.read_text()
    (run,) = mlflow_runs()
    assert run.info.status == "FAILED"
    assert not [name for name in run.data.metrics if name.startswith("test/")]
    artifacts = [file.path for file in client().list_artifacts(run.info.run_id)]
    assert sorted(artifacts) == ["config.yaml", "metrics.csv", "result.json", "run.log", "traceback.txt"]
    assert start() == 0
    (line,) = said(capsys)
    assert f"was FAILED (UserError: {complaint}" in line
    goes_on = (
        f"goes on from step {last_good} to 60"
        if last_good < 60
        else "evaluates the model at step 60, and trains no"
    )
    assert (goes_on if last_good else "starts again") in line
    assert_ends_as(root, undisturbed)


OWN_OBJECTIVE = """
from evidence.objectives import IWAE

class Own(IWAE):
    scale = 1.0

    def forward(self, model, x):
        estimate = super().forward(model, x)
        return estimate._replace(surrogate=self.scale * estimate.surrogate)
"""


@pytest.fixture
def edit(root: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Writes the user's module anew, with something else in place of its factor."""
    monkeypatch.syspath_prepend(str(root))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # which would outlive two edits within a second

    def write(scale: str) -> None:
        (root / "own_objective.py").write_text(OWN_OBJECTIVE.replace("1.0", scale))
        sys.modules.pop("own_objective", None)

    write("1.0")
    return write


OWN = ["objective._target_=own_objective.Own", "objective.name=own"]


def test_a_run_that_other_code_has_begun_is_not_gone_on_with_unasked(
    root: Path, edit: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    begin(*OWN)
    before = only_directory(root).read()
    edit("0.5")
    said(capsys)
    assert start(*OWN) == 1
    (line,) = said(capsys)
    assert "was begun by other code (own_objective has changed)" in line
    assert "other_code=true goes on" in line
    assert "rerun=true computes it afresh" in line
    assert only_directory(root).read() == before

    assert start(*OWN, "other_code=true") == 0
    (line,) = said(capsys)
    assert "goes on from step 40 to 60" in line
    assert "(own_objective has changed): it is marked as mixed" in line
    result = only_directory(root).read()
    assert result.status == "FINISHED"
    assert result.mixed == ["from step 40: own_objective has changed"]
    (run,) = mlflow_runs()
    assert run.info.status == "FINISHED"
    assert run.data.tags["mixed"] == result.mixed[0]

    edit("1.0")
    assert start(*OWN, "rerun=true") == 0
    mixed, pure = directories(root)
    assert mixed.read() == result
    assert (pure.folder.name, pure.read().mixed) == (f"{mixed.folder.name}-2", [])
    assert numbers(pure) != numbers(mixed)


def test_a_mixed_run_is_computed_afresh_by_rerun(
    root: Path, edit: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where today's code is the one that has finished it."""
    begin(*OWN)
    edit("0.5")
    assert start(*OWN, "other_code=true") == 0
    said(capsys)
    assert start(*OWN) == 0
    (line,) = said(capsys)
    assert "is mixed (from step 40: own_objective has changed): rerun=true computes it afresh" in line
    assert start(*OWN, "rerun=true") == 0
    mixed, pure = directories(root)
    assert (pure.folder.name, pure.read().mixed) == (f"{mixed.folder.name}-2", [])
    said(capsys)
    for again in ([], ["rerun=true"]):
        assert start(*OWN, *again) == 0
        assert said(capsys) == []
    assert len(directories(root)) == 2


def test_a_rerun_of_an_interrupted_run_leaves_the_first_record_alone(
    root: Path, edit: Callable[[str], None]
) -> None:
    begin(*OWN)
    before = only_directory(root).read()
    edit("1.00")  # other code, the same numbers
    assert start(*OWN, "rerun=true") == 0
    first, second = directories(root)
    assert second.folder.name == f"{first.folder.name}-2"
    assert first.read() == before
    assert second.read().status == "FINISHED"
    edit("1.0")
    assert start(*OWN) == 0
    assert numbers(first) == numbers(second)
    assert {run.info.run_name: run.info.status for run in mlflow_runs()} == {
        first.folder.name: "FINISHED",
        second.folder.name: "FINISHED",
    }


def test_a_finished_runs_result_is_shown_with_a_word_on_its_code(
    root: Path, edit: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    assert start(*OWN) == 0
    edit("0.5")
    shown = capsys.readouterr().out
    assert start(*OWN) == 0
    printed = capsys.readouterr()
    assert printed.out == shown
    name = only_directory(root).folder.name
    assert printed.err == (
        f"evidence: {name} was computed by other code (own_objective has changed): rerun=true computes it"
        " afresh, in a record of its own\n"
    )
    assert start(*OWN, "rerun=true") == 0
    first, second = directories(root)
    assert second.folder.name == f"{name}-2"
    assert numbers(first) != numbers(second)
    assert len(mlflow_runs()) == 2
    shown = capsys.readouterr().out
    assert start(*OWN, "rerun=true") == 0
    assert capsys.readouterr() == (shown, "")
    assert len(directories(root)) == len(mlflow_runs()) == 2
