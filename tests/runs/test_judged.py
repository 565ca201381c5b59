"""A trained run is judged by metrics without training it again, whatever becomes of the metrics' code."""

import sys
from pathlib import Path

import pytest
from runs import directories, start

from evidence import training
from evidence.runs import sources

pytestmark = pytest.mark.usefixtures("no_figures")

METRIC = """class Own:
    def __call__(self, model, x, log_weights):
        return {"own": 0 * log_weights.mean(0) + %d}
"""


@pytest.fixture
def trained(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A finished run, after which nothing is trained."""
    assert start("tracking=none") == 0
    monkeypatch.setattr(training, "train", None)
    monkeypatch.setattr("evidence.runs.driver.train", None, raising=False)


def judged(root: Path) -> list[dict[str, float]]:
    """The metrics of the records, in the order in which they were begun."""
    records = [each.read() for each in directories(root)]
    return [each.metrics for each in sorted(filter(None, records), key=lambda each: each.began or "")]


@pytest.mark.usefixtures("trained")
def test_judges_score_a_finished_run(root: Path) -> None:
    fast = ("eval.metrics.ais.num_temperatures=3", "eval.samples=60", "eval.images=5")
    assert start("tracking=none", "eval=ais", *fast) == 0
    plain, found = judged(root)
    assert found["speed/train_seconds"] == plain["speed/train_seconds"]
    names = {"nll_ais", "bdmc_gap", "khat", "khat_above", "jvi_1", "jvi_2"}
    assert {f"test/{name}" for name in names} <= found.keys() - plain.keys()
    assert abs(found["test/nll_ais"] - found["test/nll"]) < 20


@pytest.mark.usefixtures("trained")
def test_another_file_of_a_metric_scores_the_same_training(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    own = "+eval.metrics.own._target_=judge_of_ones_own.Own"
    for number in (1, 2):
        (tmp_path / "judge_of_ones_own.py").write_text(METRIC % number)
        monkeypatch.delitem(sys.modules, "judge_of_ones_own", raising=False)
        sources._known.pop("judge_of_ones_own", None)
        assert start("tracking=none", own, *(["rerun=true"] if number == 2 else [])) == 0
    found = judged(root)
    assert [each.get("test/own") for each in found] == [None, 1.0, 2.0]
    assert len({each["speed/train_seconds"] for each in found}) == 1
