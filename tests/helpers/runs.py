"""Small runs on scikit-learn's digits, started as a user starts them, and what they leave behind.

The fixtures `root` and `fresh_store` in conftest.py give a test folders and an MLflow store of its own.
"""

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from evidence import project, training
from evidence.cli import command_line
from evidence.config import compose
from evidence.config.settings import Settings
from evidence.models import LatentVariableModel
from evidence.records.directory import RunDirectory
from evidence.records.lineage import latest_checkpoint
from evidence.runs import driver
from evidence.stack import Stack

CONF = Path(__file__).resolve().parents[2] / "conf"
# Reports, and with them checkpoints, at steps 20, 40 and 60.
SMALL = [
    "data=digits",
    "k=3",
    "trainer=smoke",
    "trainer.steps=60",
    "trainer.checkpoint_seconds=0",
    "eval=smoke",
    "eval.images=50",
    "device=cpu",
]


# What MLflow has of a finished run, besides its figures.
FILES = {"config.yaml", "metrics.csv", "model", "result.json", "run.log"}


def start(*overrides: str) -> int:
    """The exit status of a small run."""
    return command_line.main([*SMALL, *overrides], CONF)


def settings(*overrides: str) -> Settings:
    """What `start` runs."""
    arguments, _ = compose.read_arguments([*SMALL, *overrides])
    return compose.request(CONF, arguments).jobs[0].settings


@contextlib.contextmanager
def at_step(step: int, act: Callable[[LatentVariableModel], object]) -> Iterator[None]:
    """Inside the block, `act` is done as training reports `step`, before anything is recorded of it."""
    real = training.train

    def watched(model: LatentVariableModel, *args: Any) -> Iterator[training.Report]:
        for report in real(model, *args):
            if report.step == step:
                act(model)
            yield report

    whole = driver.train

    def watched_whole(stack: Stack, *args: Any) -> Any:
        for reports in whole(stack, *args):
            if reports is not None and reports[0].step == step:
                act(stack._members[0].parts.model)
            yield reports

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "train", watched)
        patch.setattr(driver, "train", watched_whole)
        yield


def interrupt(*_: object) -> None:
    """What Ctrl-C does."""
    raise KeyboardInterrupt


def begin(*overrides: str) -> None:
    """Start a run and interrupt it before its step 60 counts."""
    with at_step(60, interrupt):
        assert start(*overrides) == 130


def directories(root: Path) -> list[RunDirectory]:
    """Of the runs' records."""
    return [RunDirectory(path.parent) for path in sorted(root.glob("outputs/*/result.json"))]


def only_directory(root: Path) -> RunDirectory:
    """Of the one run that there is."""
    (directory,) = directories(root)
    return directory


def last_state(directory: RunDirectory) -> dict[str, Any]:
    """The checkpoint that a run ended with."""
    found = latest_checkpoint([directory], directory.read().steps)
    assert found is not None
    return found.state


def numbers(directory: RunDirectory) -> dict[str, float]:
    """A run's results, without those that depend on the clock."""
    metrics = json.loads((directory.folder / "result.json").read_text())["metrics"]
    return {name: value for name, value in metrics.items() if not name.startswith("speed/")}


def client(uri: str | None = None) -> MlflowClient:
    """For the store of the test's `root`, or another."""
    return MlflowClient(uri or f"sqlite:///{project.root() / 'mlflow.db'}")


def mlflow_runs(uri: str | None = None, name: str = "evidence") -> list[Run]:
    """All runs of the experiment, but those of sweeps."""
    found = client(uri).get_experiment_by_name(name)
    all_runs = client(uri).search_runs([found.experiment_id]) if found else []
    return [run for run in all_runs if "sweep_parent" not in run.data.tags]


def stored_rows(run: Run, uri: str | None = None) -> list[tuple[str, float, int]]:
    """Every metric of a run in the store, by name, value and step, as often as it stands there."""
    rows = [
        (metric.key, metric.value, metric.step)
        for name in run.data.metrics
        for metric in client(uri).get_metric_history(run.info.run_id, name)
    ]
    return sorted(rows, key=lambda row: (row[0], row[2]))


def recorded_rows(directory: RunDirectory) -> list[tuple[str, float, int]]:
    """What `stored_rows` should be once a finished run is delivered, by what its folder says."""
    result = directory.read()
    final = [
        (name, value, 0)
        for name, value in result.metrics.items()
        if name.startswith(("test/", "test_", "speed/"))
    ]
    return sorted(directory.read_metrics() + final, key=lambda row: (row[0], row[2]))


def assert_ends_as(
    root: Path, undisturbed: dict[str, float], uri: str | None = None, name: str = "evidence"
) -> None:
    """There is one run, which has ended as if nothing had happened, in its folder and in the store."""
    directory = only_directory(root)
    assert directory.read().status == "FINISHED"
    assert numbers(directory) == undisturbed
    assert [row[2] for row in directory.read_metrics() if row[0] == "train/iwae"] == [20, 40, 60]
    assert list(directory.folder.rglob("*.tmp")) == []
    (run,) = mlflow_runs(uri, name)
    assert run.info.status == "FINISHED"
    assert run.info.end_time >= run.info.start_time
    assert stored_rows(run, uri) == recorded_rows(directory)


def said(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What the user was told since this was last asked, but progress: one line each, and never a traceback."""
    printed = capsys.readouterr()
    assert "Traceback" not in printed.out + printed.err
    return [line for line in printed.err.splitlines() if not line.startswith(("pass ", "evaluating "))]
