"""Before a sweep: what is done, what is left, and how long that takes by the speed of finished runs."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from made_up import CONF, METRICS, MadeUp, directory_of, fails_at, request, rows, stand_in

from evidence.cli.command_line import main
from evidence.data import Dataset
from evidence.records.directory import stored
from evidence.runs import lookup
from evidence.sweeps import estimate as estimating
from evidence.sweeps import plan
from evidence.sweeps.estimate import Estimate

UNKNOWN = "time unknown: no run of the same kind has finished on this machine; plan=true tells it after the first one"
# A thousand steps of a second, and ten thousand draws of ten milliseconds.
WORDS = ["trainer=smoke", "trainer.steps=1000", "k=1", "eval.samples=100", "eval.images=100"]
VALIDATION = 400 * 100  # draws: the images, each with S = 100


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MadeUp:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    return stand_in(tmp_path, monkeypatch)


def finish(runs: MadeUp, *words: str, train: float = 1000.0, score: float = 100.0, **changes: Any) -> None:
    """Leave the record of a finished run that took so many seconds."""
    (job,) = request(*WORDS, *words).jobs
    runs.run(job.settings)
    directory = lookup.locate(job.settings, runs.ROOT).directory
    metrics = METRICS | {"speed/train_seconds": train, "speed/eval_seconds": score}
    directory.update(metrics=metrics | changes.pop("metrics", {}), **changes)


def estimate(runs: MadeUp, *words: str) -> Estimate:
    """Of the one job that the words ask for."""
    (found,) = plan.survey(request(*WORDS, *words).jobs, runs.ROOT).estimates.values()
    return found


def test_the_plan_counts_what_is_done(runs: MadeUp, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-m", "seed=0,1"], CONF) == 0
    assert capsys.readouterr().err == f"evidence: 2 jobs: 2 to begin\nevidence: {UNKNOWN}\n"
    runs.compute = fails_at(2)
    assert main(["-m", "seed=2"], CONF) == 1
    capsys.readouterr()
    runs.compute = lambda settings: None
    assert main(["-m", "seed=0,1,2,3,3"], CONF) == 0
    assert capsys.readouterr().err.splitlines() == [
        "evidence: 5 jobs (4 distinct): 2 already done, 1 to be continued, 1 to begin",
        "evidence: estimated time about 2:02:11",
    ]
    assert main(["-m", "seed=0,1"], CONF) == 0
    assert capsys.readouterr().err == "evidence: 2 jobs: 2 already done\n"


def test_equal_jobs_have_a_name() -> None:
    assert plan.distinguishing([["k=1", "seed=0"], ["k=1", "seed=0"]]) == ["k=1 seed=0"] * 2
    assert plan.distinguishing([["k=1", "seed=0"], ["k=1", "seed=1"]]) == ["seed=0", "seed=1"]


def test_plan_only_runs_nothing_and_creates_nothing(
    runs: MadeUp, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["-m", "k=3", "seed=0,1,1", "plan=true"], CONF) == 0
    assert main(["k=3", "plan=true"], CONF) == 0
    assert not runs.started
    assert not list(tmp_path.iterdir())
    out = capsys.readouterr().out
    directories = [directory_of(runs.ROOT, "k=3", f"seed={seed}") for seed in (0, 1)]
    first, second = (str(directory.folder.relative_to(runs.ROOT)) for directory in directories)
    assert ["0", "seed=0", "begins", "unknown", first] in rows(out)
    assert ["1", "seed=1", "begins", "unknown", second] in rows(out)
    assert ["2", "seed=1", "as job 1", second] in rows(out)
    assert rows(out)[-1] == ["0", "k=3 plan=true", "begins", "unknown", first]
    assert out.splitlines()[-1] == f"  {UNKNOWN}"


def test_one_finished_seed_gives_the_others_their_time(
    runs: MadeUp, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["seed=0"], CONF) == 0
    assert main(["-m", "seed=0,1,2", "plan=true"], CONF) == 0
    out = capsys.readouterr().out
    assert [line[1:4] for line in rows(out)[1:]] == [
        ["seed=0", "done", rows(out)[1][3]],
        ["seed=1", "begins", "1:01:06"],
        ["seed=2", "begins", "1:01:06"],
    ]
    assert out.splitlines()[-1] == "  estimated time about 2:02:11"


def test_the_time_is_the_median_of_the_kind(runs: MadeUp) -> None:
    finish(runs, "seed=1", train=1000.0, score=100.0)
    finish(runs, "seed=2", "trainer.learning_rate=0.1", train=3000.0, score=500.0)
    finish(runs, "seed=3", "trainer.log_every=7", train=7000.0, score=300.0)
    finish(runs, "seed=4", "k=2", train=9e9, score=9e9)
    assert estimate(runs) == Estimate(3000.0 + 300.0 * (1 + VALIDATION / 10_000))


def test_steps_and_draws_are_scaled_and_each_stage_is_validated(runs: MadeUp) -> None:
    finish(runs)
    words = ["trainer.steps=5000", "trainer.decay=0.5", "trainer.decay_every=1250"]
    assert estimate(runs, *words) == Estimate(5000.0 + 0.01 * (10_000 + 4 * VALIDATION))
    scored = ["eval.samples=50", "eval.images=null", "seed=1"]
    assert estimate(runs, *scored) == Estimate(1000.0 + 0.01 * (500_000 + VALIDATION))
    staged = ["trainer.steps=null", "trainer.stages=1", "trainer.batch_size=20"]
    assert estimate(runs, *staged) == Estimate(2980.0 + 0.01 * (10_000 + VALIDATION))


def test_each_validation_counts(runs: MadeUp) -> None:
    """At the ends of stages, and after each so many passes; those that coincide once."""
    finish(runs, "compile=false")
    a_pass, scored = 2980, 0.01 * 10_000
    every = [f"trainer.steps={4 * a_pass + 10}", "trainer.validate_every=1", "compile=false"]
    assert estimate(runs, *every, "seed=1").seconds == pytest.approx(
        4 * a_pass + 10 + scored + 0.01 * 5 * VALIDATION
    )
    staged = [
        "trainer.steps=null",
        "trainer.stages=3",
        "trainer.batch_size=20",
        "trainer.validate_every=2",
        "compile=false",
    ]
    # after passes 1, 4 and 13, the ends of stages, and after 2, 6, 8, 10 and 12
    assert estimate(runs, *staged).seconds == pytest.approx(13 * a_pass + scored + 0.01 * 8 * VALIDATION)


@pytest.mark.parametrize(
    "splits", ["80/10/10 by hash", {"training": 80}, {"train": "many", "valid": 1, "test": 1}]
)
def test_a_users_own_words_on_its_splits_say_nothing(runs: MadeUp, splits: object) -> None:
    finish(runs, data={"splits": splits})
    assert estimate(runs, "seed=7").seconds is None
    finish(runs, "seed=8")
    assert estimate(runs, "seed=7").seconds is not None


def test_a_semi_implicit_posterior_is_scored_with_its_noises(runs: MadeUp) -> None:
    words = [
        "objective=uivi",
        "eval.semi_implicit.samples=10",
        "eval.semi_implicit.noises=10",
        "eval.images=100",
    ]
    finish(runs, *words, metrics={"test/nll_mixture": 90.0})
    more = ["eval.semi_implicit.samples=20", "eval.semi_implicit.noises=30", "seed=1"]
    seconds = 1000.0 + 0.01 * (60_000 + 400 * 100 * 100)
    assert estimate(runs, *words, *more) == Estimate(pytest.approx(seconds))


def test_a_run_of_another_kind_says_nothing(runs: MadeUp) -> None:
    finish(runs)
    others = [
        "k=2",
        "model.hidden=[[100]]",
        "objective=vae",
        "data=fashion_mnist",
        "data.binarization=threshold",
        "trainer.batch_size=21",
        "trainer.optimizer.fused=false",
        "trainer.reduction=mean",
        "trainer.steps=10000",
        "eval.rows=100",
        "compile=true",
        "device=cuda",
    ]
    assert estimate(runs, "seed=1").seconds is not None
    assert {word: estimate(runs, "seed=1", word) for word in others} == dict.fromkeys(others, Estimate(None))


def test_neither_does_one_on_another_machine_of_an_earlier_version_or_that_failed(runs: MadeUp) -> None:
    finish(runs, "seed=1", provenance={"processor": "another, 2 threads"})
    finish(runs, "seed=2", device="A GPU")
    finish(runs, "seed=3", identity_version=1)
    finish(runs, "seed=4", status="FAILED")
    finish(runs, "seed=5")
    directory_of(runs.ROOT, *WORDS, "seed=5").config.unlink()
    assert estimate(runs) == Estimate(None)


def test_only_what_is_left_counts(runs: MadeUp) -> None:
    finish(runs)
    words = ["trainer.decay=0.5", "trainer.decay_every=400"]  # validated at 400, 800 and 1000
    runs.compute = fails_at(1)
    with pytest.raises(Exception, match="out of luck"):
        runs.run(request(*WORDS, *words, "seed=1").jobs[0].settings)
    folder = directory_of(runs.ROOT, *WORDS, *words, "seed=1").folder / "checkpoints"
    folder.mkdir()
    for step in (0, 400, 900, 2000):
        (folder / f"{step:09d}.pt").touch()
    at_900 = Estimate(100.0 + 0.01 * (10_000 + VALIDATION), 900)
    assert estimate(runs, *words, "seed=1") == at_900
    # The same path of parameters, shorter, in a record of its own; and one that stands on another path.
    at_400 = Estimate(400.0 + 0.01 * (10_000 + VALIDATION), 400)
    assert estimate(runs, *words, "seed=1", "trainer.steps=800") == at_400
    assert estimate(runs, *words, "seed=2").first_step == 0


def test_the_images_of_the_users_own_data_are_counted(runs: MadeUp) -> None:
    finish(runs, data={})
    found = plan.survey(request(*WORDS, "seed=1").jobs, runs.ROOT)
    assert found.estimates == {0: Estimate(None)}
    images = torch.zeros(60, 1, dtype=torch.uint8)
    dataset = Dataset(images, 1, images[:10], images[:50], (1, 1), {})
    (job,) = found.jobs
    located = job.located._replace(dataset=dataset)
    assert estimating.estimate([(job.settings, located)], stored) == [
        Estimate(1000.0 + 0.01 * (50 * 100 + 6 * 10 * 100))  # at the end, and after each 168 steps
    ]


def test_each_record_is_read_once_for_all_jobs(runs: MadeUp, monkeypatch: pytest.MonkeyPatch) -> None:
    (job,) = request(*WORDS).jobs
    seeds = [job.settings.model_copy(update={"seed": seed}) for seed in range(40)]
    for settings in seeds[:20]:
        runs.run(settings)
    read, read_bytes = Counter[Path](), Path.read_bytes

    def counting(path: Path) -> bytes:
        read[path] += path.is_relative_to(runs.ROOT)
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", counting)
    found = plan.survey([job._replace(settings=settings) for settings in seeds[20:]], runs.ROOT)
    assert {each.seconds is None for each in found.estimates.values()} == {False}
    assert sorted(number for number in read.values() if number) == [1] * 40  # config.yaml and result.json


def test_estimates_in_words() -> None:
    one = request("-m", "seed=0,1")
    two, search = one._replace(parallel=2), one._replace(is_search=True)

    def words(request: Any, *seconds: float | None) -> list[str]:
        return plan.words(request, plan.Plan([], dict(enumerate(map(Estimate, seconds)))))[1:]

    assert words(one) == []
    assert words(one, 90.0, 90.0) == ["estimated time about 0:03:00"]
    assert words(two, 90.0, 90.0) == ["estimated time about 0:01:30, 2 jobs at a time"]
    assert words(two, 90.0, 10.0) == ["estimated time about 0:01:30, 2 jobs at a time"]
    assert words(search, 90.0) == [
        "estimated time about 0:01:30 for seed=0; another of its jobs may take longer"
    ]
    assert words(one, None, None) == [UNKNOWN]
    assert words(search, None) == [UNKNOWN]
    assert words(one, 90.0, None) == [
        "estimated time about 0:01:30 for 1 of 2 jobs; no run of the others' kind has finished on this machine"
    ]
    assert words(two, 90.0, 90.0, None, None) == [
        "estimated time about 0:01:30 for 2 of 4 jobs, 2 jobs at a time; no run of the others' kind has finished"
        " on this machine"
    ]


def test_the_time_of_metrics_is_known_from_runs_that_measured_the_same(runs: MadeUp) -> None:
    """A finished run without them, or one that does not say what they took, tells nothing of it."""
    judge = ["+eval.metrics.khat._target_=evidence.evaluation.ParetoK"]
    finish(runs)
    finish(runs, *judge)
    assert estimate(runs, *judge, "seed=7").seconds is None
    finish(runs, *judge, "seed=8", score=400.0, metrics={"speed/metrics_seconds": 300.0})
    plain, judged = estimate(runs, "seed=7").seconds, estimate(runs, *judge, "seed=7").seconds
    assert plain is not None
    assert judged == pytest.approx(plain + 300.0, rel=0.01)
