"""Before a sweep: what is done, what is left, and how long that takes."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from made_up import CONF, MadeUp, directory_of, fails_at, request, rows, stand_in

from evidence.cli.command_line import main
from evidence.config import compose
from evidence.errors import UserError
from evidence.runs import build, lifecycle, resume
from evidence.sweeps import estimate, plan
from evidence.sweeps.estimate import Costs, Estimate


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MadeUp:
    return stand_in(tmp_path, monkeypatch)


def job_and_place(root: Path, *words: str) -> tuple[compose.Job, resume.Place]:
    (job,) = request(*words).jobs
    return job, resume.locate(job.settings, root)


def test_the_plan_counts_what_is_done(runs: MadeUp, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-m", "seed=0,1"], CONF) == 0
    assert capsys.readouterr().err == "evidence: 2 jobs: 2 to begin\nevidence: estimated time about 0:02:00\n"
    runs.compute = fails_at(2)
    assert main(["-m", "seed=2"], CONF) == 1
    capsys.readouterr()
    runs.compute = lambda settings: None
    assert main(["-m", "seed=0,1,2,3,3"], CONF) == 0
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "evidence: 5 jobs (4 distinct): 2 already done, 1 to be continued, 1 to begin"
    assert main(["-m", "seed=0,1"], CONF) == 0
    assert capsys.readouterr().err == "evidence: 2 jobs: 2 already done\n"


def test_plan_only_runs_nothing_and_creates_nothing(
    runs: MadeUp, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["-m", "k=3", "seed=0,1,1", "plan=true"], CONF) == 0
    assert main(["k=3", "plan=true"], CONF) == 0
    assert not runs.started
    assert not list(tmp_path.iterdir())
    printed = rows(capsys.readouterr().out)
    directories = [directory_of(runs.ROOT, "k=3", f"seed={seed}") for seed in (0, 1)]
    first, second = (str(directory.folder.relative_to(runs.ROOT)) for directory in directories)
    assert ["0", "seed=0", "begins", "0:01:00", first] in printed
    assert ["1", "seed=1", "begins", "0:01:00", second] in printed
    assert ["2", "seed=1", "as job 1", second] in printed
    assert printed[-1] == ["0", "k=3 plan=true", "begins", "0:01:00", first]


def test_what_is_left_is_scaled_from_the_checkpoint_it_goes_on_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def costs(job: compose.Job, *_: object) -> Costs:
        asked.append(job.settings.k)
        return Costs(step=1.0, validation=10.0, scoring=100.0, ends=[20, 40], data="d")

    monkeypatch.setattr(estimate, "_costs", costs)
    jobs = [
        job_and_place(tmp_path, f"k={k}", f"seed={seed}", f"trainer.learning_rate={rate}")
        for k, seed, rate in [(1, 0, 0.1), (1, 1, 0.1), (1, 0, 0.2), (5, 0, 0.1)]
    ]
    folder = jobs[1][1].directory.folder / "checkpoints"
    folder.mkdir(parents=True)
    for step in (0, 30, 50):
        (folder / f"{step:09d}.pt").touch()
    found = estimate.estimate(jobs, tmp_path)
    assert found == [Estimate(160.0), Estimate(120.0, first_step=30), Estimate(160.0), Estimate(160.0)]
    assert asked == [1, 5]  # neither the seed nor the learning rate has a price
    monkeypatch.setattr(estimate, "TOTAL_SECONDS", 1e-9)
    monkeypatch.setattr(estimate, "_costs", lambda *_: "no data")
    assert estimate.estimate(jobs[:1], tmp_path) == [Estimate(None, is_rough=True)]


def test_what_is_not_measured_in_time_is_rough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 0.0, 30.0])
    monkeypatch.setattr(estimate, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr(estimate, "_costs", lambda *_: Costs(1.0, 10.0, 100.0, [40], "d"))
    jobs = [job_and_place(tmp_path, f"k={k}") for k in (1, 5)]
    assert estimate.estimate(jobs, tmp_path) == [Estimate(150.0), Estimate(150.0, is_rough=True)]


def test_estimates_in_words() -> None:
    one, two = request("-m", "seed=0,1"), request("-m", "seed=0,1")._replace(parallel=2)
    known, rough, unknown = Estimate(90.0), Estimate(30.0, is_rough=True), Estimate(None, reason="no data")
    assert plan.duration(one, []) == ""
    assert plan.duration(one, [known, known]) == "estimated time about 0:03:00"
    assert plan.duration(two, [known, known]) == "estimated time about 0:01:30, 2 jobs at a time"
    assert plan.duration(two, [known, rough]) == "estimated time roughly 0:01:30, 2 jobs at a time"
    assert plan.duration(one, [unknown]) == "estimated time unknown: no data"
    assert plan.duration(one, [known, unknown]) == (
        "estimated time about 0:01:30, and 1 of unknown length (no data)"
    )


def test_a_plan_without_data_says_that_the_time_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_data(*args: object) -> None:
        raise UserError("no such set")

    monkeypatch.setattr(build, "build", no_data)
    monkeypatch.setattr(lifecycle, "ROOT", tmp_path)
    assert main(["plan=true"], CONF) == 0
    assert "estimated time unknown: no such set" in capsys.readouterr().out
