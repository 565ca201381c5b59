"""`make sync`: records computed without a store are delivered later, from a copy of their folder."""

import shutil
from pathlib import Path

import pytest
import runs
from runs import CONF, directories, mlflow_runs, said, start

from evidence import project
from evidence.cli.command_line import main
from evidence.report import frame, measurements
from evidence.tracking import housekeeping

pytestmark = pytest.mark.usefixtures("no_figures")


def sync(*overrides: str) -> int:
    return main(["sync=true", *overrides], CONF)


@pytest.fixture
def _cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The records of a finished, a stopped and a failed run of tracking=none, copied to the test's root."""
    there = tmp_path / "cluster"
    there.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(project, "_root", there)
        patch.setattr("socket.gethostname", lambda: "node7")
        assert start("tracking=none", "seed=7") == 0
        with runs.at_step(60, runs.interrupt):
            assert start("tracking=none", "seed=8") == 130
        assert start("tracking=none", "seed=9", "trainer.learning_rate=1e25") == 1
    shutil.copytree(there / "outputs", tmp_path / "outputs")
    shutil.rmtree(there)


@pytest.mark.usefixtures("_cluster")
def test_records_of_an_offline_cluster_are_delivered_from_a_copy(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert start() == 0
    capsys.readouterr()
    assert sync() == 0
    outputs = root / "outputs"
    assert said(capsys) == [
        f"evidence: records in {outputs}: 1 there already; 3 of tracking=none left out: sync=all delivers them too"
    ]
    assert sync("sync=all") == 0
    assert said(capsys) == [f"evidence: records in {outputs}: delivered 3; 1 there already"]
    assert sync() == 0
    assert said(capsys) == [f"evidence: records in {outputs}: 4 there already"]
    found = {run.info.run_name: run for run in mlflow_runs()}
    assert sorted(run.info.status for run in found.values()) == ["FAILED", "FINISHED", "FINISHED", "KILLED"]
    for directory in directories(root):
        run = found[directory.folder.name]
        assert run.data.tags["folder"] == f"outputs/{directory.folder.name}"
        assert run.data.tags["record"] == directory.read().record
        if run.info.status == "FINISHED":
            assert runs.stored_rows(run) == runs.recorded_rows(directory)
    monkeypatch.setattr(project, "_root", root)
    finished = frame.finished("evidence")
    assert "node7" in set(finished["host"])
    for _, run in finished.iterrows():
        assert measurements.trained(run).model is not None


@pytest.mark.usefixtures("_cluster")
@pytest.mark.parametrize("is_typed", [True, False])
def test_after_a_move_the_folder_is_right(
    is_typed: bool, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sync("sync=all") == 0
    (root / "outputs").rename(root / "moved")
    capsys.readouterr()
    if is_typed:
        assert start("seed=7", "paths.outputs=moved") == 0
        (name,) = (path.name for path in (root / "moved").glob("*-s7-*"))
        assert capsys.readouterr().out.splitlines()[-1] == f"  moved/{name}"
        assert {run.data.tags["folder"] for run in mlflow_runs() if name == run.info.run_name} == {
            f"moved/{name}"
        }
    else:
        assert sync("paths.outputs=moved") == 0
        assert {run.data.tags["folder"].partition("/")[0] for run in mlflow_runs()} == {"moved"}
    assert len(mlflow_runs()) == 3


@pytest.mark.usefixtures("_cluster")
def test_what_cannot_be_delivered_is_counted_and_stops_no_other(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torn, running, early = directories(root)
    torn.config.write_text("[")
    running.update(
        status="RUNNING", process={"host": "node7", "pid": 1, "since": "2026-01-01T00:00:00+00:00"}
    )
    early.update(record="")
    assert sync("sync=all") == 0
    assert said(capsys)[-1].endswith(
        ": 1 still computed; 1 of an earlier version, which cannot be delivered; 1 damaged"
    )


@pytest.mark.usefixtures("_cluster")
def test_a_store_that_is_down_is_asked_once(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sync("sync=all", "tracking.uri=http://127.0.0.1:1") == 2
    assert "(no answer)" in said(capsys)[-1]
    asked: list[object] = []
    monkeypatch.setattr(housekeeping, "ensure_delivered", lambda *given: asked.append(given) or True)
    assert sync("sync=all", "tracking=none") == 2
    assert not asked
    assert "sync" in said(capsys)[-1]
