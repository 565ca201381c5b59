"""A search with Optuna: its space is checked whole, it learns from valid/nll, and typing it again computes nothing."""

from pathlib import Path
from statistics import median
from typing import Any

import pytest
from made_up import MadeUp, fails_at, request, rows, stand_in
from runs import CONF, SMALL, directories, said

from evidence.cli.command_line import main
from evidence.config.settings import Settings
from evidence.errors import UserError

SEARCH = ["-m", "hydra/sweeper=optuna"]


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MadeUp:
    return stand_in(tmp_path, monkeypatch)


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("space", "line"),
    [
        ("k=interval(1,5)", "k=1.0: must be a whole number: 1 (in a search: int(interval(...)))"),
        ("k=int(interval(0,5))", "k=0: must be at least 1"),
        ("k=range(1,2000000)", "k=2000000: must be at most 1000000"),
        ("trainer.learning_rate=interval(1e-2,1e-4)", "interval(1e-2,1e-4): the lower end comes first"),
        ("trainer.learning_rate=tag(log,interval(0,1))", "on a logarithmic scale both ends must be above 0"),
        ("trainer.lerning_rate=interval(1e-4,1e-2)", "did you mean 'trainer.learning_rate'?"),
        ("trainer.learning_rate=interval(1e-4", "cannot read 'trainer.learning_rate=interval(1e-4'"),
        (
            "trainer.learning_rate=interval(low,high)",
            "cannot read 'trainer.learning_rate=interval(low,high)'",
        ),
        ("objective=choice(iwae,via)", "unknown choice 'objective=via': did you mean 'objective=vae'?"),
        ("data=glob(*)", "data=glob(*): a search takes choice(...), range(...) or interval(...)"),
        ("hydra.sweeper.n_trials=0", "hydra.sweeper.n_trials=0: must be at least 1"),
        ("hydra.sweeper.direction=down", "hydra.sweeper.direction=down: must be one of minimize, maximize"),
        ("hydra.sweeper.storage=sqlite:///search.db", "storage=sqlite:///search.db: must be null"),
        ("hydra.sweeper.sampler.seed=x", "hydra.sweeper.sampler.seed=x: must be a whole number"),
        ("hydra/sweeper=basic k=int(interval(1,5))", "an interval is for a search: add hydra/sweeper=optuna"),
    ],
)
def test_a_space_that_makes_no_sense_is_one_line(
    space: str, line: str, runs: MadeUp, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SEARCH, *space.split()], CONF) == 2
    (complaint,) = said(capsys)
    assert line in complaint
    assert list(tmp_path.iterdir()) == []


def test_a_search_goes_where_valid_nll_is_low(
    runs: MadeUp, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made_up = runs.run

    def run(settings: Settings, *rest: Any) -> float:
        made_up(settings, *rest)
        return (settings.trainer.learning_rate - 0.008) ** 2

    monkeypatch.setattr(runs, "run", run)
    space = ["trainer.learning_rate=interval(1e-4,1e-2)", "k=int(interval(1,5))"]
    assert main([*SEARCH, *space, "hydra.sweeper.n_trials=20"], CONF) == 0
    rates = [each.trainer.learning_rate for each in runs.started]
    assert len(set(rates)) == 20
    assert all(1e-4 <= rate <= 1e-2 for rate in rates)
    assert {each.k for each in runs.started} <= {1, 2, 3, 4, 5}
    distances = [abs(rate - 0.008) for rate in rates]
    assert median(distances[10:]) < median(distances[:10]) / 2  # the first ten are drawn at random
    assert said(capsys)[0] == "evidence: a search: its jobs are chosen as it goes"


def test_a_search_typed_again_proposes_the_same_and_goes_on(runs: MadeUp) -> None:
    words = [*SEARCH, "trainer.learning_rate=interval(1e-4,1e-2)", "k=choice(1,5)"]
    assert main([*words, "hydra.sweeper.n_trials=3"], CONF) == 0
    first, runs.started = runs.started, []
    assert main([*words, "hydra.sweeper.n_trials=5"], CONF) == 0
    assert runs.started[:3] == first
    assert len(runs.started) == 5


def test_a_failed_job_does_not_stop_a_search(runs: MadeUp, capsys: pytest.CaptureFixture[str]) -> None:
    runs.compute = fails_at(2)
    space = ["seed=range(1,3)", "trainer.learning_rate=interval(1e-4,1e-2)"]
    assert main([*SEARCH, *space, "hydra.sweeper.n_trials=8"], CONF) == 1
    seeds = [each.seed for each in runs.started]
    assert {1, 2} < set(seeds)
    statuses = [line[1] for line in rows(capsys.readouterr().out)[1:]]
    assert statuses == ["FAILED" if seed == 2 else "FINISHED" for seed in seeds]


def test_a_search_without_a_result_says_so(runs: MadeUp, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(settings: Settings) -> None:
        raise UserError("out of luck")

    runs.compute = fail
    assert main([*SEARCH, "seed=range(1,9)", "hydra.sweeper.n_trials=2"], CONF) == 1
    lines = said(capsys)  # no traceback among them
    assert "evidence: no job of the search has finished, so none is the best" in lines
    assert not any("ValueError" in line for line in lines)
    assert "evidence: 2 of 2 jobs failed:" in lines


def test_what_a_search_runs_at_a_time() -> None:
    words = [*SEARCH, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "seed=range(1,9)"]
    assert request(*words).launcher_overrides == ["hydra.launcher.n_jobs=1"]  # Optuna proposes one at a time
    assert len(request(*words).jobs) == 1


def test_real_runs_are_searched(root: Path, no_figures: None, capsys: pytest.CaptureFixture[str]) -> None:
    outputs = f"paths.outputs={root / 'outputs'}"
    space = ["trainer.learning_rate=tag(log,interval(1e-4,1e-2))", "hydra.sweeper.n_trials=2"]
    words = [*SEARCH, *SMALL, "trainer.steps=20", outputs, "tracking=none", *space]
    assert main(words, CONF) == 0
    found = {directory.folder.name: directory.read().metrics for directory in directories(root)}
    assert len(found) == 2
    (best,) = root.glob("outputs/.sweeps/*/optimization_results.yaml")
    lowest = min(metrics["valid/nll"] for metrics in found.values())
    assert f"best_value: {lowest}\n" in best.read_text()
    assert main(words, CONF) == 0
    assert {directory.folder.name: directory.read().metrics for directory in directories(root)} == found
    printed = capsys.readouterr()
    (best_name,) = [name for name, metrics in found.items() if metrics["valid/nll"] == lowest]
    (line,) = {line for line in printed.out.splitlines() if "lowest valid/nll" in line}
    assert line.startswith(f"  lowest valid/nll {lowest:.2f}: trainer.learning_rate=")
    rate = line.rpartition(": ")[2]
    assert any(rate in row and best_name in row for row in printed.out.splitlines())
    assert "A new study" not in printed.err
