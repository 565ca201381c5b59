"""A store that does not take something of one run gets the rest of it, and every other run."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import runs
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from runs import client, mlflow_runs, only_directory, said, start

from evidence import tracking, training
from evidence.tracking import mlflow_sync
from evidence.tracking.params import LONGEST_TAG, metric_name
from evidence.trial import interfaces

pytestmark = pytest.mark.usefixtures("no_figures")
NAMES = [
    "train/100%",
    "train//elbo",
    "train/.",
    "/x",
    "..",
    ".",
    "",
    "x" * 251,
    "a\nb",
    "train/\udcff",
    "a/../b",
]


@pytest.fixture
def _late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training reports a metric of a new name at its second report."""
    real = training.train

    def train(*args: Any) -> Iterator[training.Report]:
        for report in real(*args):
            yield report._replace(
                metrics=report.metrics | {"100%": 1.0} if report.step == 40 else report.metrics
            )

    monkeypatch.setattr(training, "train", train)


@pytest.mark.usefixtures("_late")
def test_a_name_that_mlflow_refuses_is_refused_when_it_is_first_reported(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert start() == 1
    assert "metric '100%' must have a name of letters" in said(capsys)[-1]
    (run,) = mlflow_runs()
    assert run.info.status == "FAILED"


@pytest.mark.usefixtures("_late")
def test_such_a_name_in_a_record_is_escaped(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interfaces, "check_metric_names", lambda *_: None)
    assert start() == 0
    assert ("train/100%", 1.0, 40) in only_directory(root).read_metrics()
    (run,) = mlflow_runs()
    assert run.info.status == "FINISHED"
    assert (metric_name("train/100%"), 1.0, 40) in runs.stored_rows(run)
    assert start() == 0
    assert len(runs.stored_rows(mlflow_runs()[0])) == len(runs.recorded_rows(only_directory(root)))


def test_names_and_values_of_any_kind_are_taken_and_stay_different(root: Path) -> None:
    escaped = {metric_name(name) for name in NAMES}
    assert len(escaped) == len(NAMES)
    assert not escaped & set(NAMES)
    assert metric_name("train/elbo 2: a-b.c/π") == "train/elbo 2: a-b.c/π"
    assert all(metric_name(name) == name for name in escaped)
    run = tracking.create_run(tracking.Store(None, "odd", root), "odd", {"lock": "\udcff\0"})
    run.log([(name, 1.0, 1) for name in escaped])
    run.set_tags({"mixed": "x" * 9000, "parent": "a\0b"})
    run.add_params({"init_from": "\udcff\0"})
    stored = client().get_run(run.run_id).data
    assert stored.metrics.keys() == escaped
    assert (stored.params["init_from"], stored.tags["parent"]) == ("\\udcff\\x00", "a\\x00b")
    assert len(stored.tags["mixed"]) == LONGEST_TAG


def refuse(monkeypatch: pytest.MonkeyPatch, *refused: str) -> None:
    """The store refuses each call that has a metric, tag or param of these names, and every artifact."""
    real = MlflowClient.log_batch

    def log_batch(
        self: MlflowClient, run_id: str, metrics: Any = (), params: Any = (), tags: Any = ()
    ) -> None:
        if found := [each.key for each in (*metrics, *params, *tags) if each.key in refused]:
            raise MlflowException(f"no {found[0]} here", INVALID_PARAMETER_VALUE)
        real(self, run_id, metrics, params, tags)

    def log_artifact(*_: Any) -> None:
        raise ModuleNotFoundError("No module named 'boto3'", name="boto3")

    monkeypatch.setattr(MlflowClient, "log_batch", log_batch)
    monkeypatch.setattr(MlflowClient, "log_artifact", log_artifact)


@pytest.mark.parametrize("refused", [["test/nll"], ["k"], ["train/iwae", "device"]])
def test_the_rest_of_a_run_is_delivered_and_later_what_was_refused(
    refused: list[str], root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        refuse(patch, *refused)
        assert start() == 0
    (line,) = (line for line in said(capsys) if "not all of it" in line)
    assert "does not take" in line
    assert "start its server" not in line
    (run,) = mlflow_runs()
    assert run.info.status == "FINISHED"
    assert "config.yaml (its module boto3 is not installed)" in run.data.tags[mlflow_sync.UNDELIVERED]
    assert run.data.metrics.keys() >= {"test/nll", "test/elbo", "train/iwae", "valid/nll"} - set(refused)
    assert start() == 0  # the same command
    (run,) = mlflow_runs()
    assert run.data.tags[mlflow_sync.UNDELIVERED] == ""
    assert {*run.data.metrics, *run.data.params, *run.data.tags} >= set(refused)
    assert runs.stored_rows(run) == runs.recorded_rows(only_directory(root))
    assert {each.path for each in client().list_artifacts(run.info.run_id)} == runs.FILES


@pytest.mark.parametrize("torn", ["config.yaml", "metrics.csv"])
def test_a_record_that_cannot_be_delivered_stops_no_other(
    torn: str, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert start() == 0
    directory = only_directory(root)
    (run,) = mlflow_runs()
    client().update_run(run.info.run_id, status="RUNNING")
    before = (directory.folder / torn).read_bytes()
    (directory.folder / torn).write_bytes(b"name,value,step\nx,[,\xff\n")
    assert start("seed=1") == 0
    (line,) = (line for line in said(capsys) if line.endswith("left out"))
    assert str(directory.folder) in line
    assert {run.info.run_name: run.info.status for run in mlflow_runs()}[directory.folder.name] == "RUNNING"
    (directory.folder / torn).write_bytes(before)
    assert start("seed=1") == 0
    assert start("seed=2") == 0
    assert {run.info.status for run in mlflow_runs()} == {"FINISHED"}
