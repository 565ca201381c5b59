"""One MLflow server over PostgreSQL for all machines, and two processes that write to it at once."""

import contextlib
import itertools
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest
from joblib.externals import loky
from runs import CONF, SMALL, directories, mlflow_runs, recorded_rows, stored_rows

from evidence.cli.command_line import main

SCRIPT = Path(__file__).with_name("postgres.sh")
LOOPBACK = "0100007F"  # as Linux lists 127.0.0.1
NOT_HERE = 77  # the script's status

pytestmark = pytest.mark.slow


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def listens_at(port: int) -> set[str]:
    """The addresses at which this machine listens on a port."""
    lines = [Path(f"/proc/net/{kind}").read_text().splitlines() for kind in ("tcp", "tcp6")]
    fields = [line.split() for line in itertools.chain(*lines)]
    local = [each[1].split(":") for each in fields if each[3] == "0A"]
    return {address for address, hexadecimal in local if int(hexadecimal, 16) == port}


@contextlib.contextmanager
def running(log: Path, *command: str) -> Iterator[subprocess.Popen[bytes]]:
    """The command in a process of its own until the block ends; what it says goes to a file."""
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file)
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URI of an empty database."""
    port, password = free_port(), secrets.token_hex()
    uri = f"postgresql://postgres:{password}@127.0.0.1:{port}/postgres"
    log = tmp_path_factory.mktemp("postgres") / "log"
    with running(log, str(SCRIPT), str(port), password) as process:
        for _ in range(3000):
            if process.poll() is not None:
                assert process.returncode == NOT_HERE, log.read_text()
                pytest.skip(log.read_text().splitlines()[-1])
            with contextlib.suppress(psycopg2.OperationalError):
                psycopg2.connect(uri).close()
                break
            time.sleep(0.1)
        assert listens_at(port) == {LOOPBACK}
        yield uri


@pytest.fixture(scope="module")
def server(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an MLflow server over the database."""
    port, folder = free_port(), tmp_path_factory.mktemp("server")
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    store = database.replace(
        "postgresql:", "postgresql+psycopg2:"
    )  # SQLAlchemy 2.1 takes psycopg 3 by itself
    places = ["--backend-store-uri", store, "--artifacts-destination", str(folder / "artifacts")]
    with running(folder / "log", *command, *places, "--workers", "2") as process:
        for _ in range(1200):
            assert process.poll() is None, (folder / "log").read_text()
            with contextlib.suppress(urllib.error.URLError, ConnectionError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health").close()
                break
            time.sleep(0.1)
        assert listens_at(port) == {LOOPBACK}
        yield f"http://127.0.0.1:{port}"


def test_two_processes_write_at_once(
    server: str, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    parallel = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    outputs = f"paths.outputs={tmp_path / 'outputs'}"
    try:
        assert main(["-m", *SMALL, *parallel, "seed=0,1,2,3", "name=both", outputs], CONF) == 0
    finally:
        loky.get_reusable_executor().shutdown(wait=True)

    runs = mlflow_runs(server, "both")
    assert [run.info.status for run in runs] == ["FINISHED"] * 4
    first, second, *_ = sorted(runs, key=lambda run: run.info.start_time)
    assert os.cpu_count() == 1 or second.info.start_time < first.info.end_time
    names = {run.info.run_name: run for run in runs}
    assert len(names) == 4
    for directory in directories(tmp_path):
        assert stored_rows(names[directory.folder.name], server) == recorded_rows(directory)
    with contextlib.closing(psycopg2.connect(database)) as connection, connection.cursor() as cursor:
        cursor.execute("select count(*), count(distinct (run_uuid, key, step)) from metrics")
        assert (
            cursor.fetchone()
            == (sum(len(recorded_rows(directory)) for directory in directories(tmp_path)),) * 2
        )
