"""When a run began and ended: by its record, whenever its process vanished or MLflow heard of it."""

import os
import shutil
import socket
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import runs
from runs import begin, client, mlflow_runs, only_directory, settings, start

from evidence import tracking
from evidence.records.directory import RunDirectory
from evidence.runs import lifecycle
from evidence.tracking import housekeeping, mlflow_sync

pytestmark = pytest.mark.usefixtures("no_figures")

HOUR = timedelta(hours=1)


def moment(directory: RunDirectory, name: str) -> datetime:
    found = datetime.fromisoformat(getattr(directory.read(), name))
    assert found.tzinfo is not None
    return found


def milliseconds(at: datetime) -> int:
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def earlier(directory: RunDirectory) -> None:
    """The record as if all of it had happened an hour ago."""
    result = directory.read()
    directory.update(**{name: (moment(directory, name) - HOUR).isoformat() for name in ("began", "ended")})
    directory.update(
        process=result.process.model_dump() | {"since": (datetime.now(UTC) - HOUR / 2).isoformat()}
    )


def test_a_record_that_is_delivered_later_has_its_own_times(root: Path) -> None:
    before = datetime.now(UTC)
    assert start("tracking=none") == 0
    directory = only_directory(root)
    assert before < moment(directory, "began") < moment(directory, "ended") < datetime.now(UTC)
    assert moment(directory, "began").microsecond or moment(directory, "ended").microsecond
    earlier(directory)
    assert start() == 0
    (run,) = mlflow_runs()
    assert run.info.start_time == milliseconds(moment(directory, "began"))
    assert run.info.end_time == milliseconds(moment(directory, "ended"))
    histories = [client().get_metric_history(run.info.run_id, name) for name in run.data.metrics]
    assert len(histories) > 5
    assert all(metric.timestamp <= run.info.end_time for history in histories for metric in history)


def test_a_run_that_goes_on_keeps_when_it_began_and_ends_anew(root: Path) -> None:
    begin()
    directory = only_directory(root)
    began, killed = moment(directory, "began"), moment(directory, "ended")
    running: list[dict[str, object]] = []
    with runs.at_step(60, lambda _: running.append(directory.read())):
        assert start() == 0
    assert "ended" not in running[0]
    assert moment(directory, "began") == began
    assert moment(directory, "ended") > killed
    (run,) = mlflow_runs()
    assert run.info.start_time == milliseconds(began)
    assert run.info.end_time == milliseconds(moment(directory, "ended"))


def test_a_status_that_is_said_again_does_not_move_the_end(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    directory.update(status="FINISHED")
    ended = directory.read().ended
    directory.update(status="FINISHED")
    directory.update(mixed=[])
    assert directory.read().ended == ended
    directory.update(status="RUNNING")
    assert directory.read().ended is None
    directory.update(status="FAILED")
    assert directory.read().ended > ended


def test_a_run_whose_process_vanished_ended_at_its_last_sign_of_life(root: Path) -> None:
    begin()
    directory = only_directory(root)
    directory.update(status="RUNNING")
    (run,) = mlflow_runs()
    client().update_run(run.info.run_id, status="RUNNING")
    now = time.time()
    paths = [directory.metrics, directory.lock, *directory.checkpoints().values()]
    for minutes, path in enumerate(paths, 60):
        os.utime(path, (now, now - 60 * minutes))
    lifecycle.prepare(settings("seed=1"))
    assert directory.read().status == "KILLED"
    assert moment(directory, "ended").timestamp() == pytest.approx(now - 3600, abs=1e-3)
    os.utime(directory.lock)
    assert directory.last_sign().timestamp() == pytest.approx(time.time(), abs=1)


def test_a_run_on_another_host_ended_at_its_last_heartbeat(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin()
    (run,) = mlflow_runs()
    shutil.rmtree(root / "outputs")
    heartbeat = run.info.start_time / 1000 + 0.25
    client().update_run(run.info.run_id, status="RUNNING")
    client().set_tag(run.info.run_id, "host", f"not {socket.gethostname()}")
    client().set_tag(run.info.run_id, tracking.HEARTBEAT, str(heartbeat))
    monkeypatch.setattr(housekeeping, "SILENT_SECONDS", 0.0)
    lifecycle.prepare(settings("seed=1"))
    (run,) = mlflow_runs()
    assert run.info.status == "KILLED"
    assert run.info.end_time == pytest.approx(1000 * heartbeat, abs=1)


def test_a_record_of_an_earlier_version_begins_with_its_process_and_ends_when_it_is_delivered(
    root: Path,
) -> None:
    assert start("tracking=none") == 0
    directory = only_directory(root)
    since = (datetime.now(UTC) - HOUR).isoformat(timespec="seconds")
    result = directory.read().model_dump(exclude={"began", "ended"})
    (directory.folder / "result.json").unlink()
    directory.update(**{key: value for key, value in result.items() if key != "status"})
    path = directory.folder / "result.json"
    path.write_text(path.read_text().replace("{", '{"status": "FINISHED",', 1))
    directory.update(process=result["process"] | {"since": since})
    assert directory.read().ended is None
    assert start() == 0
    (run,) = mlflow_runs()
    assert run.info.start_time == milliseconds(datetime.fromisoformat(since))
    assert abs(run.info.end_time / 1000 - time.time()) < 60
    assert not mlflow_sync.ensure_delivered(directory, tracking.Store(None, "evidence", root))


def test_rows_added_while_no_store_was_asked_are_delivered_all_the_same(root: Path) -> None:
    begin()  # killed, and delivered as such
    directory = only_directory(root)
    with runs.at_step(60, runs.interrupt):
        assert start("tracking=none", "trainer.log_every=10") == 130
    store = tracking.Store(None, "evidence", root)
    assert mlflow_sync.ensure_delivered(directory, store)
    assert not mlflow_sync.ensure_delivered(directory, store)
    (run,) = mlflow_runs()
    steps = {step for _, _, step in runs.stored_rows(run)}
    assert 50 in steps
    assert run.info.end_time == milliseconds(moment(directory, "ended"))
