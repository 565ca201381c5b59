"""A sweep with runs that are made up: who runs, the notes, the table and the exit status; and one real sweep."""

import os
import signal
from pathlib import Path

import pytest
from made_up import CONF, METRICS, MadeUp, directory_of, fails_at, request, rows, stand_in

from evidence import project
from evidence.cli.command_line import main
from evidence.config.settings import Settings
from evidence.records.directory import RunDirectory
from evidence.sweeps import plan, summary
from evidence.sweeps.notes import JobNotes, Note

SMALL = [
    "data=digits",
    "trainer=smoke",
    "trainer.steps=40",
    "model.hidden=[[20]]",
    "model.latent=[4]",
    "eval=smoke",
    "eval.images=20",
    "tracking=none",
    "device=cpu",
]


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MadeUp:
    return stand_in(tmp_path, monkeypatch)


def test_every_job_runs_once_and_knows_its_number(runs: MadeUp) -> None:
    assert main(["-m", "seed=5,6,5,7"], CONF) == 0
    assert [each.seed for each in runs.started] == [5, 6, 7]
    assert runs.numbers == [0, 1, 3]
    assert main(["seed=8"], CONF) == 0
    assert runs.numbers[3:] == [None]


def test_the_store_is_made_once_before_the_first_job(runs: MadeUp) -> None:
    runs.compute = lambda settings: runs.prepared.append("computed")
    assert main(["-m", "seed=0,1", "name=mine"], CONF) == 0
    assert runs.prepared == ["mine", "computed", "computed"]
    assert main(["-m", "seed=0,1", "name=mine"], CONF) == 0  # nothing is left to do
    assert len(runs.prepared) == 3


def test_sync_delivers_and_runs_nothing(runs: MadeUp) -> None:
    assert main(["sync=true", "name=mine"], CONF) == 0
    assert runs.synced == ["mine"]
    assert not runs.started


def test_the_table_tells_how_each_job_ended(runs: MadeUp, capsys: pytest.CaptureFixture[str]) -> None:
    runs.compute = fails_at(1)
    assert main(["-m", "k=3", "seed=0,1,2"], CONF) == 1
    said = capsys.readouterr()
    printed = rows(said.out)
    assert printed[0] == ["job", "status", "test NLL", "active units", "time", "folder"]
    ended = directory_of(runs.ROOT, "k=3").folder.relative_to(runs.ROOT)
    assert printed[1] == ["seed=0", "FINISHED", "87.65 ± 0.32", "12", "1:01:00", str(ended)]
    assert [line[:2] for line in printed[2:]] == [["seed=1", "FAILED"], ["seed=2", "FINISHED"]]
    assert said.err.splitlines()[-3:] == [
        "evidence: k=3 seed=1: out of luck",
        "evidence: 1 of 3 jobs failed:",
        "evidence:   seed=1: out of luck",
    ]


def test_fail_fast_begins_no_further_job(runs: MadeUp, capsys: pytest.CaptureFixture[str]) -> None:
    runs.compute = fails_at(1)
    assert main(["-m", "seed=0,1,2,3", "fail_fast=true"], CONF) == 1
    assert [each.seed for each in runs.started] == [0, 1]
    statuses = [line[1] for line in rows(capsys.readouterr().out)[1:]]
    assert statuses == ["FINISHED", "FAILED", "not begun", "not begun"]


def test_an_interrupted_sweep_shows_its_table_and_is_finished_by_retyping(
    runs: MadeUp, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(settings: Settings) -> None:
        if settings.seed == 1:
            os.kill(os.getpid(), signal.SIGINT)

    runs.compute = interrupted
    assert main(["-m", "seed=0,1,2"], CONF) == 130
    statuses = [line[1] for line in rows(capsys.readouterr().out)[1:]]
    assert statuses == ["FINISHED", "KILLED", "not begun"]
    runs.compute = lambda settings: None
    assert main(["-m", "seed=0,1,2"], CONF) == 0
    assert [line[1] for line in rows(capsys.readouterr().out)[1:]] == ["FINISHED"] * 3


def test_a_job_that_cannot_go_on_stops_the_sweep_before_it_begins(
    runs: MadeUp, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["-m", "seed=0", "init_from=null,nobody"], CONF) == 2
    assert capsys.readouterr().err.startswith("evidence: job 'seed=0 init_from=nobody': init_from=nobody: ")
    assert not runs.started


def test_notes_of_an_earlier_sweep_in_the_same_folder_are_forgotten(runs: MadeUp, tmp_path: Path) -> None:
    runs.compute = fails_at(0)
    words = ["-m", "fail_fast=true", f"hydra.sweep.dir={tmp_path}/mine"]
    assert main([*words, "seed=0"], CONF) == 1
    assert main([*words, "seed=1,2"], CONF) == 0
    assert [each.seed for each in runs.started] == [0, 1, 2]


def outcome(note: Note | None, folder: Path, is_search: bool = False) -> summary.Outcome:
    job_notes = JobNotes(folder)
    if note is not None:
        job_notes.write(note)
    asked = request("-m", "seed=0")._replace(is_search=is_search)
    (found,) = summary.outcomes(asked, plan.survey(asked.jobs, folder / "root").jobs, job_notes)
    return found


def test_a_search_is_told_by_its_notes(runs: MadeUp, tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "record")
    directory.folder.mkdir()
    directory.update(status="FINISHED", metrics=METRICS)
    found = outcome(Note(7, ["lr=1"], str(directory.folder), "ENDED"), tmp_path, is_search=True)
    assert found == ("lr=1", directory.folder, "FINISHED", "", directory.read())
    failed = Note(7, ["lr=1"], None, "FAILED", "no")
    assert outcome(failed, tmp_path, is_search=True) == ("lr=1", None, "FAILED", "no", None)


def test_a_job_that_vanished_or_left_no_word_is_not_taken_for_done(
    runs: MadeUp, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    silent = outcome(None, tmp_path)
    assert silent.status == "not begun"
    assert summary.exit_status([silent]) == 1
    assert "a disk that all machines share" in capsys.readouterr().err
    assert silent.folder is not None
    silent.folder.mkdir(parents=True)
    directory = RunDirectory(silent.folder)
    (located,) = (each.located for each in plan.survey(request("-m", "seed=0").jobs, tmp_path / "root").jobs)
    directory.update(status="RUNNING", **located.facts())
    assert outcome(Note(0, ["seed=0"]), tmp_path).status == "KILLED"
    with directory.locked(waits=False):
        assert outcome(Note(0, ["seed=0"]), tmp_path).status == "RUNNING"


def test_a_record_damaged_while_the_sweep_runs_hides_no_other_job(
    runs: MadeUp, capsys: pytest.CaptureFixture[str]
) -> None:
    def damaged(settings: Settings) -> None:
        if settings.seed == 2:
            first, second = sorted(runs.ROOT.glob("outputs/*-s[01]-*"))
            RunDirectory(first).update(metrics={})
            (second / "result.json").write_bytes(b"{")

    runs.compute = damaged
    assert main(["-m", "seed=0,1,2"], CONF) == 0
    said = capsys.readouterr()
    first, second, third = rows(said.out)[1:]
    assert first[1].split() == ["FINISHED"]
    assert second[1:] == ["FINISHED"]
    assert third[1:3] == ["FINISHED", "87.65 ± 0.32"]
    assert sum(line.endswith("left out") for line in said.err.splitlines()) == 2


def test_work_is_claimed_by_one_job_and_by_it_again_where_it_is_started_a_second_time(tmp_path: Path) -> None:
    """As SLURM does with a job that is out of time."""
    wanted = [(0, "a", None), (1, "a", None), (1, "a", "b"), (0, "a", None), (0, "a", "b")]
    assert [JobNotes(tmp_path).claim(*each) for each in wanted] == [True, False, True, True, False]


def test_a_real_sweep_is_run_and_told_and_says_how_long_the_next_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["run.py"])
    monkeypatch.setattr(project, "_root", tmp_path / "swept")
    assert main(["-m", *SMALL, "seed=0,1", "objective=vae"], CONF) == 0
    assert [line[1] for line in rows(capsys.readouterr().out)[-2:]] == ["FINISHED", "FINISHED"]
    (job,) = request(*SMALL, "seed=2", "objective=vae", "eval.samples=10", "trainer.steps=60").jobs
    (estimated,) = plan.survey([job], project.root()).estimates.values()
    assert estimated.seconds is not None
    assert 0 < estimated.seconds < 60
    monkeypatch.setattr(project, "_root", tmp_path / "alone")
    assert main([*SMALL, "seed=1", "objective=vae"], CONF) == 0
    swept, alone = (
        {path.parent.name: path.read_text() for path in (tmp_path / name).glob("outputs/*/metrics.csv")}
        for name in ("swept", "alone")
    )
    assert alone.items() < swept.items()
