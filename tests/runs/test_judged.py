"""A trained run is judged by metrics without training it again, whatever becomes of the metrics' code."""

import math
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


@pytest.mark.usefixtures("trained")
def test_another_content_of_a_file_that_a_metric_is_given_scores_the_same_training(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "judge_by_a_file.py").write_text(
        "from pathlib import Path\n\n\nclass Own:\n    def __init__(self, file):\n"
        "        self.number = float(Path(file).read_text())\n\n"
        "    def __call__(self, model, x, log_weights):\n"
        "        return {'own': 0 * log_weights.mean(0) + self.number}\n"
    )
    file = tmp_path / "number.txt"
    own = ["+eval.metrics.own._target_=judge_by_a_file.Own", f"+eval.metrics.own.file={file}"]
    for number in ("1", "2"):
        file.write_text(number)
        assert start("tracking=none", *own) == 0
    assert (
        "was computed from other content (eval.metrics.own.file has changed since)" in capsys.readouterr().err
    )
    found = judged(root)
    assert [each.get("test/own") for each in found] == [None, 1.0, 2.0]
    assert len({each["speed/train_seconds"] for each in found}) == 1


@pytest.mark.usefixtures("trained")
def test_rate_information_and_signal_of_a_finished_run(root: Path) -> None:
    for name in ("collapse", "gradients"):
        fewer = ["eval.metrics.snr.num_draws=5"] if name == "gradients" else []
        assert start("tracking=none", f"eval={name}", "eval.samples=20", *fewer) == 0
    plain, collapse, gradients = judged(root)
    assert collapse["test/rate"] == pytest.approx(collapse["test/kl"], abs=0.5)
    assert collapse["test/rate"] + collapse["test/distortion"] == pytest.approx(-collapse["test/elbo"], abs=1)
    assert 0 < collapse["test/mutual_information_1"] < math.log(300)
    assert gradients["test/snr_encoder"] > 0
    assert gradients["test/nll"] == collapse["test/nll"]
    for each in (collapse, gradients):
        assert each["speed/train_seconds"] == plain["speed/train_seconds"]
        assert 0 < each["speed/metrics_seconds"] < each["speed/eval_seconds"]


@pytest.mark.usefixtures("trained")
def test_other_images_are_scored_by_the_same_model(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Under the binarization of the run the numbers are the run's own."""
    also = ["+data@eval.also.own=digits", "+data@eval.also.sharp=digits"]
    assert start("tracking=none", *also, "eval.also.sharp.binarization=threshold", "eval.images=50") == 0
    found = judged(root)[-1]
    own = [name for name in found if name.startswith("test_own/")]
    assert "test_own/nll" in own
    assert all(found[name] == found[name.replace("test_own/", "test/")] for name in own)
    assert found["test_sharp/nll"] < found["test/nll"] - 0.5
    assert "sharp NLL" in capfd.readouterr().out


@pytest.mark.usefixtures("trained")
@pytest.mark.parametrize(
    ("also", "said"),
    [
        (
            ["+eval.also.own={_target_: mine.images, name: own, pixels: 64}"],
            "eval.also.own._target_=mine.images",
        ),
        (["+data@eval.also.own=mnist"], "eval.also.own.pixels=784: must be data.pixels=64"),
    ],
)
def test_other_images_are_of_this_package_and_of_the_models_size(
    also: list[str], said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert start("tracking=none", *also) != 0
    assert said in capfd.readouterr().err
