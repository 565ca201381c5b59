"""A run's numbers are those of its own last step, and a sweep may have any number of architectures."""

import json
import sys
from pathlib import Path

import pytest
import torch
from runs import at_step, interrupt, mlflow_runs, numbers, only_directory, recorded_rows, start, stored_rows

from evidence import compiling, evaluation, models, streams, training
from evidence.evaluation import importance
from evidence.objectives import IWAE
from evidence.records.directory import RunDirectory

pytestmark = pytest.mark.usefixtures("no_figures")


def of_steps(steps: int) -> list[str]:
    return ["trainer.stages=null", f"trainer.steps={steps}"]


def directory_of(root: Path, steps: int, outputs: str = "outputs") -> RunDirectory:
    found = [RunDirectory(path.parent) for path in root.glob(f"{outputs}/*/result.json")]
    (directory,) = (directory for directory in found if directory.read().steps == steps)
    return directory


@pytest.mark.parametrize(
    ("schedule", "steps", "seen"),
    [([], 40, []), (["trainer.decay=0.9", "trainer.decay_every=20", "trainer.log_every=10"], 50, [20, 40])],
    ids=["before the first validation", "after two others"],
)
def test_a_run_that_takes_up_a_longer_one_is_validated_at_its_own_last_step(
    schedule: list[str], steps: int, seen: list[int], root: Path
) -> None:
    """The longer one is killed later on; the shorter one has no step left, and its last is no stage's end there."""
    with at_step(80, interrupt):
        assert start(*of_steps(80), *schedule) == 130
    longer = directory_of(root, 80)
    assert steps in longer.checkpoints()
    validated = {step for name, _, step in longer.read_metrics() if name == "valid/nll"}
    assert sorted(step for step in validated if step <= steps) == seen
    assert start(*of_steps(steps), *schedule) == 0
    taken = directory_of(root, steps)
    assert taken.read().parent == longer.folder.name
    assert start(*of_steps(steps), *schedule, "paths.outputs=afresh", "tracking=none") == 0
    afresh = directory_of(root, steps, "afresh")
    assert numbers(taken) == numbers(afresh)
    assert taken.read_metrics() == afresh.read_metrics()
    assert {"valid/nll", "valid/active_units"} <= numbers(taken).keys()
    (run,) = (run for run in mlflow_runs() if run.info.run_name == taken.folder.name)
    assert stored_rows(run) == recorded_rows(taken)


OWN = """
import torch
from evidence.objectives import ELBO

class Own(ELBO):
    calls = 0

    def forward(self, model, x):
        surrogate, metrics = super().forward(model, x)
        Own.calls += 1
        when = "late" if Own.calls > 22 else "early"
        return surrogate, metrics | {"mine/half": 0.5 * metrics["elbo"], f"schedule/{when}": torch.tensor(1.0)}
"""


def test_a_users_own_groups_of_metrics_are_kept_and_no_stale_ones(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its metrics change after the first report: two calls of the trial, and twenty steps."""
    (root / "own_metrics.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(root))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.delitem(sys.modules, "own_metrics", raising=False)
    own = ["objective=vae", "objective._target_=own_metrics.Own", "objective.name=own", "tracking=none"]
    assert start(*own) == 0
    directory = only_directory(root)
    kept = json.loads((directory.folder / "result.json").read_text())["metrics"]
    last = {name: value for name, value, step in directory.read_metrics() if step == 60}
    assert kept["mine/half"] == last["mine/half"] == pytest.approx(0.5 * last["train/elbo"])
    assert "schedule/late" in kept
    assert "schedule/early" not in kept
    assert any(name == "schedule/early" for name, _, _ in directory.read_metrics())
    assert not any(name.startswith("train/") for name in kept)


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """torch.compile with a backend that compiles nothing: the graphs that it is given, of which torch allows eight."""
    graphs: list[int] = []

    def backend(graph: torch.fx.GraphModule, inputs: object) -> object:
        graphs.append(1)
        return graph.forward

    real = torch.compile
    torch.compiler.reset()
    importance._fused_log_ratios.cache_clear()

    def compiled(function: object, options: object = None, **keywords: object) -> object:
        return real(function, backend=backend, **keywords)  # type: ignore[call-overload]

    monkeypatch.setattr(torch, "compile", compiled)
    return graphs


def architecture(units: int) -> models.LatentVariableModel:
    torch.manual_seed(0)
    return models.hierarchical(6, [2], [[units]], "tanh", torch.full((6,), 0.3))


def test_ten_architectures_are_scored_compiled_and_each_is_compiled_once(eager: list[int]) -> None:
    x = torch.rand(4, 6).round()

    def scored(units: int, compiled: bool) -> torch.Tensor:
        model = architecture(units)
        torch.manual_seed(1)
        with torch.no_grad():
            return evaluation.score(model, x, 5, 20, compiled).weights.log_evidence

    for turn in range(2):
        streams.samples(7 * turn, 3 * turn)  # as an evaluation leaves them
        for units in range(3, 13):
            torch.testing.assert_close(scored(units, True), scored(units, False), rtol=1e-6, atol=0.0)
        assert len(eager) == 10, turn
    importance._fused_log_ratios.cache_clear()


def test_ten_architectures_are_trained_compiled_and_each_is_compiled_once(eager: list[int]) -> None:
    """As the jobs of a sweep are, one after the other in a process; scores between them stay compiled too."""

    def gradients(units: int, differentiate: training.Differentiate) -> tuple[torch.Tensor | None, ...]:
        model, objective = architecture(units), IWAE(4)
        torch.manual_seed(1)
        return differentiate(model, objective, list(model.parameters()), torch.rand(4, 6).round(), "sum")[0]

    for turn in range(2):
        streams.samples(7 * turn, 3 * turn)  # as an evaluation leaves them
        for units in range(3, 13):
            found = gradients(units, compiling.compiled(training.gradients))
            torch.testing.assert_close(found, gradients(units, training.gradients))
        assert len(eager) == 10, turn
