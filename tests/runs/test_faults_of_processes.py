"""Servers that die, processes that vanish, clocks that jump, and two processes that want the same run."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from runs import (
    assert_ends_as,
    at_step,
    begin,
    client,
    directories,
    mlflow_runs,
    numbers,
    only_directory,
    recorded_rows,
    said,
    settings,
    start,
    stored_rows,
)

from evidence import tracking
from evidence.records.directory import RunDirectory
from evidence.runs import lifecycle
from evidence.tracking import mlflow_sync

pytestmark = pytest.mark.usefixtures("no_figures")

DAY = 86400.0


class Server:
    """A real MLflow server over SQLite, on one port of this machine however often it is started."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port = listener.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self._folder, self._process = folder, None

    def start(self, *_: object) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--host=127.0.0.1", f"--port={self.port}"]
        folders = ["--backend-store-uri=sqlite:///mlflow.db", "--artifacts-destination=artifacts"]
        with (self._folder / "server.log").open("a") as log:
            self._process = subprocess.Popen(
                [*command, *folders, "--workers=1"],
                cwd=self._folder,
                env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        while not self._answers():
            assert self._process.poll() is None, (self._folder / "server.log").read_text()
            time.sleep(0.1)

    def kill(self, *_: object) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()


@pytest.fixture(scope="module")
def one_server(fresh_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    (folder / "mlflow.db").write_bytes(fresh_store.read_bytes())
    server = Server(folder)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def server(one_server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The user's, which is up as the test begins."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", one_server.uri)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return one_server


def test_a_server_killed_and_restarted_in_mid_training_has_every_row_once(
    server: Server,
    root: Path,
    undisturbed: dict[str, float],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(mlflow_sync, "RETRY_SECONDS", 0.0)
    real = tracking.MLflowRun.log

    def log_and_lose_the_server(run: tracking.MLflowRun, rows: list[Any]) -> None:
        real(run, rows)
        if any(step == 40 for _, _, step in rows):
            server.kill()
            run.last_steps()  # whoever asks now, does not learn that the rows have arrived

    monkeypatch.setattr(tracking.MLflowRun, "log", log_and_lose_the_server)
    with (
        at_step(60, lambda _: monkeypatch.setattr(tracking.MLflowRun, "log", real)),
        at_step(60, server.start),
    ):
        assert start("name=restarted") == 0
    assert said(capsys) == []
    assert "the run goes on, its rows wait" in only_directory(root).log.read_text()
    assert_ends_as(root, undisturbed, server.uri, "restarted")


def test_a_server_that_stays_dead_stops_nothing_and_is_told_all_later(
    server: Server,
    root: Path,
    undisturbed: dict[str, float],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TMPDIR", str(root))  # for what Hydra writes of a sweep
    with at_step(40, server.kill):
        assert start("name=dead", "-m", "seed=0,1") == 0
    lines = [line for line in said(capsys) if "MLflow" in line]
    assert [directory.read().status for directory in directories(root)] == ["FINISHED"] * 2
    assert numbers(directories(root)[0]) == undisturbed
    assert len(lines) == 2
    for line, directory in zip(lines, directories(root), strict=True):
        assert line.startswith(f"evidence: the MLflow store {server.uri} cannot be used (no answer)")
        assert f"The record is in {directory.folder}: the same command or `make sync` will deliver it" in line
    assert start("name=dead", "seed=0") == 0  # the result is shown all the same
    assert said(capsys) == lines[:1]
    server.start()
    assert start("name=dead", "seed=0") == 0
    assert said(capsys) == []
    assert len(mlflow_runs(server.uri, "dead")) == 1
    lifecycle.sync(settings("name=dead"))
    runs = {run.info.run_name: run for run in mlflow_runs(server.uri, "dead")}
    assert len(runs) == 2
    for directory in directories(root):
        run = runs[directory.folder.name]
        assert run.info.status == "FINISHED"
        assert stored_rows(run, server.uri) == recorded_rows(directory)


@pytest.mark.parametrize("jump", [-DAY, DAY])
def test_a_clock_that_jumps_touches_no_live_run(
    jump: float,
    root: Path,
    undisturbed: dict[str, float],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(mlflow_sync, "HEARTBEAT_SECONDS", 0.0)
    real, others = time.time, settings("seed=1")

    def another_command(_: object) -> None:
        lifecycle.prepare(others)
        assert only_directory(root).read().status == "RUNNING"
        assert [run.info.status for run in mlflow_runs()] == ["RUNNING"]

    with (
        at_step(20, lambda _: monkeypatch.setattr(time, "time", lambda: real() + jump)),
        at_step(40, another_command),
    ):
        assert start() == 0
    assert said(capsys) == []
    assert_ends_as(root, undisturbed)


def leave_running(root: Path, host: str) -> None:
    """What a process on that host, killed by SIGKILL a moment ago, would have left."""
    begin()
    directory = only_directory(root)
    directory.update(status="RUNNING", process=directory.read().process.model_dump() | {"host": host})
    (run,) = mlflow_runs()
    client().update_run(run.info.run_id, status="RUNNING")
    client().set_tag(run.info.run_id, "host", host)


def test_a_run_whose_process_vanished_is_closed_by_the_next_command(
    root: Path, undisturbed: dict[str, float], capsys: pytest.CaptureFixture[str]
) -> None:
    leave_running(root, socket.gethostname())
    said(capsys)
    lifecycle.prepare(settings("seed=1"))
    (line,) = said(capsys)
    assert line.startswith(f"evidence: {only_directory(root).folder.name}: its process had vanished")
    assert only_directory(root).read().status == "KILLED"
    (run,) = mlflow_runs()
    assert run.info.status == "KILLED"
    assert start() == 0
    (line,) = said(capsys)
    assert line.endswith("was KILLED (its process vanished); goes on from step 40 to 60")
    assert_ends_as(root, undisturbed)


@pytest.mark.parametrize("is_shared", [True, False], ids=["same folder", "same store"])
def test_a_run_on_another_host_is_closed_only_after_half_an_hours_silence(
    is_shared: bool, root: Path
) -> None:
    leave_running(root, "elsewhere")
    directory, (run,) = only_directory(root), mlflow_runs()
    if not is_shared:
        directory = RunDirectory(directory.folder.rename(root / "theirs"))
    for minutes, status in (29, "RUNNING"), (31, "KILLED"):
        then = time.time() - 60 * minutes
        os.utime(directory.lock, (then, then))
        client().set_tag(run.info.run_id, tracking.HEARTBEAT, str(then))
        lifecycle.prepare(settings("seed=1"))
        assert [each.info.status for each in mlflow_runs()] == [status]
        assert directory.read().status == (status if is_shared else "RUNNING")


TWIN = """
import sys, time, pathlib, runs
from evidence.runs import figures
figures.draw = lambda *_: None
gate, outputs = pathlib.Path(sys.argv[1]), sys.argv[2]

def wait(_):
    while not gate.exists():
        time.sleep(0.05)

with runs.at_step(40, wait):
    sys.exit(runs.start(f"paths.outputs={outputs}"))
"""


def test_of_two_identical_runs_at_once_one_computes_and_the_other_waits(
    root: Path, undisturbed: dict[str, float]
) -> None:
    tests = Path(__file__).parents[1]
    environment = {
        **os.environ,
        "PYTHONPATH": f"{tests / 'helpers'}{os.pathsep}{tests.parent / 'src'}",
        "MLFLOW_TRACKING_URI": f"sqlite:///{root / 'mlflow.db'}",
        "OMP_NUM_THREADS": "1",
    }
    twins = []

    def bear() -> subprocess.Popen[str]:
        command = [sys.executable, "-c", TWIN, str(root / "gate"), str(root / "outputs")]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        twins.append(subprocess.Popen(command, env=environment, **pipes))
        return twins[-1]

    try:
        first = bear()
        while first.poll() is None and not directories(root):
            time.sleep(0.1)
        second = bear()
        waiting = second.stderr.readline()
        (root / "gate").touch()
        (shown, _), (shown_too, rest) = (same_as.communicate(timeout=120) for same_as in twins)
    finally:
        for same_as in twins:
            same_as.kill()
            same_as.communicate()
    assert waiting.startswith(
        f"evidence: {only_directory(root).folder.name} is being computed by process {first.pid} on"
    )
    assert waiting.endswith(": waiting\n")
    assert rest == ""
    assert [same_as.returncode for same_as in twins] == [0, 0]
    assert "test NLL" in shown
    assert shown == shown_too
    assert_ends_as(root, undisturbed)
