"""Whole runs through the command line's own path, on scikit-learn's digits: records, statuses, continuation."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import runs
import torch
from runs import CONF, at_step, client, mlflow_runs, numbers, only_directory, start

from evidence import training
from evidence.errors import Terminated
from evidence.records.directory import RunDirectory
from evidence.runs import lifecycle

pytestmark = pytest.mark.usefixtures("root")


def at_each_report(seen: Callable[[int], object]) -> Callable[..., Iterator[training.Report]]:
    """`train`, watched."""
    real = training.train

    def watched(*args: Any) -> Iterator[training.Report]:
        for report in real(*args):
            seen(report.step)
            yield report

    return watched


def results(root: Path) -> list[dict[str, Any]]:
    return [directory.read() for directory in runs.directories(root)]


@pytest.mark.parametrize(
    "overrides",
    [
        ["objective=vae"],
        ["objective=iwae", "k=3", "model=two_layer"],
        ["objective=critic"],
        ["objective=uivi", "trainer=smoke", "trainer.steps=10"],
        ["objective=sivi", "trainer=smoke", "trainer.steps=10"],
        [
            "objective=vae",
            "model=explicit",
            "trainer=uivi_paper",
            "trainer.steps=10",
            "objective.kl=analytic",
        ],
    ],
    ids=lambda overrides: "-".join(overrides[:2]),
)
def test_every_objective_runs_to_a_result(overrides: list[str], root: Path) -> None:
    assert start(*overrides, "tracking=none") == 0
    (result,) = results(root)
    metrics = result.metrics
    assert result.status == "FINISHED"
    assert 0 < metrics["test/nll"] < 60  # untrained: 64 pixels at log 2, 44 nats
    assert metrics["test/nll_se"] > 0
    assert 0 <= metrics["test/active_units"] <= 150
    assert metrics["speed/steps_per_second"] > 0
    names = {row[0] for row in only_directory(root).read_metrics()}
    assert {"valid/nll", "valid/active_units"} < names
    if "objective=uivi" in overrides:
        assert {"hmc/acceptance", "hmc/step_size", "train/log_joint"} < names
        assert {"test/nll_mixture", "test/nll_fresh", "test/nll_gaussian"} < set(metrics)
        assert "test/elbo" not in metrics
    if "model=two_layer" in overrides:
        layers = [metrics[f"test/active_units_{layer}"] for layer in (1, 2)]
        assert sum(layers) == metrics["test/active_units"]


def test_a_run_leaves_its_folder_and_the_same_numbers_in_mlflow(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert start("objective=iwae", "k=3", "name=study", "seed=4") == 0
    directory = only_directory(root).folder
    figures = {"active_units", "reconstructions", "samples", "samples_over_training", "training"}
    assert {path.stem for path in (directory / "figures").glob("*.png")} == figures
    assert {path.name for path in directory.iterdir()} >= {
        "config.yaml",
        "result.json",
        "metrics.csv",
        "run.log",
    }
    (result,) = results(root)
    assert directory.name == result.run == f"iwae-k3-one_layer-digits-s4-{result.run_identity[:6]}"
    (run,) = mlflow_runs(name="study")
    assert run.info.status == "FINISHED"
    assert run.info.run_name == directory.name
    assert run.info.run_id == result.mlflow_run_id
    assert (
        run.data.params.items()
        >= {
            "objective": "iwae",
            "variant": "num_exact=4",
            "k": "3",
            "model": "one_layer",
            "data": "digits",
            "seed": "4",
            "trainer": "smoke",
            "stages": "60 steps",
            "batch_size": "20",
            "latent_dim": "50",
            "reduction": "sum",
            "precision": "float32",
            "eval_samples": "50",
            "eval_images": "50",
            "trainer.learning_rate": "0.001",
            "model.hidden": "[[200, 200]]",
        }.items()
    )
    for name, value in result.metrics.items():
        assert run.data.metrics[name] == pytest.approx(value), name
    assert {"train_identity", "run_identity", "folder", "device", "git_commit", "host"} < set(run.data.tags)
    artifacts = client().list_artifacts(run.info.run_id)
    assert {file.path for file in artifacts} == {*runs.FILES, "figures"}
    assert runs.stored_rows(run) == runs.recorded_rows(only_directory(root))
    shown = capsys.readouterr().out
    assert f"{result.metrics['test/nll']:.2f} ± {result.metrics['test/nll_se']:.2f}" in shown
    assert "active units" in shown


def test_the_same_command_gives_the_same_numbers_whoever_watches(
    root: Path, undisturbed: dict[str, float]
) -> None:
    assert start("tracking=none", "trainer.log_every=7", "trainer.checkpoint_seconds=9", "name=other") == 0
    assert numbers(only_directory(root)) == undisturbed


def test_typing_a_finished_runs_command_shows_its_result_and_computes_nothing(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert start("tracking=none") == 0
    first, record = capsys.readouterr().out, (only_directory(root).folder / "result.json").read_bytes()
    monkeypatch.setattr(lifecycle, "build", None)
    assert start("tracking=none") == 0
    assert capsys.readouterr().out == first
    assert (only_directory(root).folder / "result.json").read_bytes() == record


def test_another_evaluation_trains_nothing_and_more_steps_train_the_rest(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert start() == 0
    trained: list[int] = []
    monkeypatch.setattr(training, "train", at_each_report(trained.append))
    for step in (60, 80):
        assert start(f"trainer.steps={step}", "eval.samples=70") == 0
    assert trained == [80]
    (root / "outputs").rename(root / "before")
    assert start("trainer.steps=80", "eval.samples=70", "tracking=none") == 0
    whole = numbers(only_directory(root))
    continued = [numbers(RunDirectory(path.parent)) for path in root.glob("before/*/result.json")]
    assert whole in continued  # to the last bit
    tags = [run.data.tags.get("parent") for run in mlflow_runs()]
    assert sum(tag is not None for tag in tags) == 2
    steps = [[row[2] for row in runs.stored_rows(run) if row[0] == "train/iwae"] for run in mlflow_runs()]
    assert sorted(steps) == [
        [20, 40, 60],
        [20, 40, 60],
        [20, 40, 60, 80],
    ]  # the parent's history carried over


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize(
    ("stop", "status", "code"),
    [
        (KeyboardInterrupt, "KILLED", 130),
        (Terminated, "KILLED", 143),
        (SystemExit, "FAILED", 1),  # as a class of the user's may
        (RuntimeError, "FAILED", 1),
    ],
)
def test_a_run_that_is_stopped_says_so_and_goes_on_when_typed_again(
    root: Path, undisturbed: dict[str, float], stop: type[BaseException], status: str, code: int
) -> None:
    def cut_short(*_: object) -> None:
        raise stop(1)

    with at_step(60, cut_short):
        assert start() == code
    assert results(root)[0].status == status
    assert [run.info.status for run in mlflow_runs()] == [status]
    assert start() == 0
    runs.assert_ends_as(root, undisturbed)
    directory = only_directory(root)
    assert sorted(directory.checkpoints()) == [0, 60]
    assert "goes on from step 40" in directory.log.read_text()


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_to_the_process_leaves_no_run_running(root: Path, signum: signal.Signals, code: int) -> None:
    store = f"sqlite:///{root / 'mlflow.db'}"
    long = ["data=digits", "trainer=smoke", "trainer.steps=1000000", "compile=false"]
    long += [f"paths.outputs={root / 'outputs'}"]
    command = [sys.executable, str(CONF.parent / "run.py"), *long]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": store, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        while process.poll() is None and not list(root.glob("outputs/*/metrics.csv")):
            time.sleep(0.1)
        process.send_signal(signum)
        try:
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == code
    assert "Traceback" not in said
    assert results(root)[0].status == "KILLED"
    assert [run.info.status for run in mlflow_runs()] == ["KILLED"]


def test_divergence_fails_the_run_by_name(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert start("trainer.learning_rate=1e30", "trainer.log_every=5") == 1
    assert results(root)[0].status == "FAILED"
    said = capsys.readouterr().err
    assert "training has diverged" in said
    assert "Traceback" not in said


def test_a_sweep_runs_every_job_and_one_failure_does_not_stop_it(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = ["-m", "objective=vae,iwae", "k=2", "trainer.learning_rate=1e30,1e-3", "trainer.steps=20"]
    assert start(*sweep) == 1
    statuses = [result.status for result in results(root)]
    assert sorted(statuses) == ["FAILED", "FAILED", "FINISHED", "FINISHED"]
    assert len(mlflow_runs()) == 4
    logs = [path.read_text() for path in root.glob("outputs/*/run.log")]
    assert sorted("status FINISHED" in text for text in logs) == [False, False, True, True]
    assert all("status F" in text for text in logs)  # no job's log falls silent
    assert "2 of 4 jobs failed" in capsys.readouterr().err


def test_a_missing_device_an_unwritable_folder_and_a_busy_home_are_one_line(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert start("device=cuda") == 1
    (root / "file").write_text("in the way")
    assert start("paths.outputs=file") == 1
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 2
    assert "device=cuda" in said[0]
    assert "paths.outputs=file" in said[1]
    assert not (root / "outputs").exists()
