"""What MLflow holds after a run, and what a user reads when a store cannot be used."""

import math
import socket
import sqlite3
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from evidence import tracking
from evidence.errors import UserError

PARAMS: dict[str, str | int | float] = {"objective": "iwae", "k": 5}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose store is made once: that takes seconds."""
    return tmp_path_factory.mktemp("a root")


def new_run(root: Path, record: str = "r") -> tracking.MLflowRun:
    store = tracking.Store(None, "study", root)
    tags = {"record": record, "device": "cpu", "host": "h", "lock": "l", tracking.HEARTBEAT: "0"}
    return tracking.create_run(store, "iwae-k5", tags)


def seen(root: Path, run_id: str):
    """The run as `mlflow ui` at the root reads it."""
    from mlflow import MlflowClient

    return MlflowClient(f"sqlite:///{root / 'mlflow.db'}").get_run(run_id)


def test_a_run_is_recorded_below_the_root_whatever_the_current_folder(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = new_run(root)
    run.add_params(PARAMS)
    run.set_tags({"folder": "here"})
    run.log([("train/iwae", -90.0 - step, step) for step in range(2500)])
    figure = root / "prior.png"
    figure.write_bytes(b"image")
    run.artifact(figure, "figures")
    run.close("FINISHED")

    record = seen(root, run.run_id)
    assert record.info.run_name == "iwae-k5"
    assert record.info.status == run.status == "FINISHED"
    assert record.data.params == {"objective": "iwae", "k": "5"}
    assert record.data.tags["device"] == "cpu"
    assert record.data.tags["folder"] == "here"
    assert record.data.metrics == {"train/iwae": -90.0 - 2499}
    assert run.last_steps() == {"train/iwae": 2499}
    assert [path.name for path in (root / "mlruns" / "study").rglob("figures/*")] == ["prior.png"]
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_finite_is_nan_and_not_1e308(root: Path) -> None:
    run = new_run(root)
    run.log([("plus", math.inf, 0), ("minus", -math.inf, 0), ("nan", math.nan, 0)])
    metrics = seen(root, run.run_id).data.metrics
    assert set(metrics) == {"plus", "minus", "nan"}
    assert all(math.isnan(value) for value in metrics.values())


def test_metrics_go_in_batches_that_any_server_takes() -> None:
    sizes = []

    class Server:
        def log_batch(self, run_id: str, metrics: list) -> None:
            sizes.append(len(metrics))

    info = SimpleNamespace(run_id="run", status="RUNNING", start_time=0, end_time=None, experiment_id="1")
    run = SimpleNamespace(info=info, data=SimpleNamespace(tags={}, params={}))
    tracking.MLflowRun(Server(), run, "http://server").log(
        [("train/elbo", 0.0, step) for step in range(2500)]
    )
    assert sizes == [1000, 1000, 500]


def test_a_record_finds_its_run_again_and_its_params_stay(root: Path) -> None:
    first = new_run(root, "mine")
    new_run(root, "another")
    first.add_params(PARAMS)
    first.close("KILLED")
    store = tracking.Store(None, "study", root)
    found = tracking.find_run(store, "mine")
    assert found is not None
    assert found.run_id == first.run_id
    found.resume()
    found.add_params(PARAMS | {"k": 6})
    found.set_tags({"device": "cuda"})
    assert seen(root, first.run_id).info.status == "RUNNING"
    assert seen(root, first.run_id).data.params["k"] == "5"
    assert seen(root, first.run_id).data.tags["device"] == "cuda"
    assert found.run_id in [run.run_id for run in tracking.running(store)]
    assert tracking.find_run(store, "nobody") is None
    assert tracking.find_run(store._replace(experiment="elsewhere"), "mine") is None


def test_a_clock_set_back_ends_no_run_before_its_start(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = new_run(root)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - 86400)
    run.close("FINISHED")
    info = seen(root, run.run_id).info
    assert info.end_time == info.start_time


def test_a_run_that_is_brought_later_began_when_it_began(root: Path) -> None:
    began = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    run = tracking.create_run(tracking.Store(None, "study", root), "late", {}, began)
    run.close("FINISHED")
    info = seen(root, run.run_id).info
    assert datetime.fromtimestamp(info.start_time / 1000, UTC) == began
    assert info.end_time > info.start_time


def test_two_processes_may_create_the_store_together(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from evidence.tracking import Store, create_run;"
        "create_run(Store(None, 'study', Path(sys.argv[1])), 'run', {}).close('FINISHED')"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    environment = {"PYTHONPATH": str(Path(tracking.__file__).parents[2])}
    processes = [subprocess.Popen(command, env=environment, **pipes) for _ in range(2)]
    assert [process.communicate()[0] for process in processes] == ["", ""]  # nor any chatter
    assert [process.returncode for process in processes] == [0, 0]
    with sqlite3.connect(tmp_path / "mlflow.db") as connection:
        assert connection.execute("select status from runs").fetchall() == [("FINISHED",)] * 2
    connection.close()


@pytest.mark.parametrize("answers", [True, False])
def test_a_dead_server_is_one_line_soon(answers: bool, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")  # what the user sets, wins over our eight seconds
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        if not answers:
            listener.close()
        begin = time.monotonic()
        with pytest.raises(UserError, match=r"\(no answer\).*MLFLOW_TRACKING_URI") as caught:
            tracking.prepare(tracking.Store(f"http://me:secret@127.0.0.1:{port}", "study", root))
    assert time.monotonic() - begin < 5
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_store_of_another_version_is_named_and_left_alone(root: Path, tmp_path: Path) -> None:
    new_run(root)
    copy = tmp_path / "mlflow.db"
    copy.write_bytes((root / "mlflow.db").read_bytes())
    with sqlite3.connect(copy) as connection:
        connection.execute("update alembic_version set version_num = 'later'")
    connection.close()
    before = copy.read_bytes()
    with pytest.raises(UserError, match="mlflow db upgrade"):
        new_run(tmp_path)
    assert copy.read_bytes() == before


def test_a_process_that_dies_making_the_store_leaves_none_that_is_half_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(uri: str) -> None:
        Path(uri.removeprefix("sqlite:///")).write_bytes(b"half made")
        raise KeyboardInterrupt

    monkeypatch.setattr("mlflow.MlflowClient", die)
    with pytest.raises(KeyboardInterrupt):
        tracking.prepare(tracking.Store(None, "study", tmp_path))
    assert not (tmp_path / "mlflow.db").exists()


def test_a_file_that_is_no_store_is_named_at_once(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"no database " * 100)
    with pytest.raises(UserError, match="not a database"):
        new_run(tmp_path)


def test_a_deleted_experiment_is_named_with_its_remedy(root: Path) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{root / 'mlflow.db'}")
    client.delete_experiment(client.create_experiment("gone"))
    with pytest.raises(UserError, match="mlflow experiments restore"):
        tracking.prepare(tracking.Store(None, "gone", root))
