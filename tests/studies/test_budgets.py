"""What the longer budgets of the studies train: as many passes and seeds as their descriptions say."""

from collections import Counter
from pathlib import Path

import pytest
from made_up import request

from evidence.report.study import BUDGETS, discovered

ROOT = Path(__file__).resolve().parents[2]
STUDIES = {study.target: study for study in discovered(ROOT / "experiments")}
CELLS = 6  # VAE and IWAE, k = 1, 5, 50
FORMS = 7  # of the critic-weighted update, with VAE and IWAE
BOUNDS = 5  # IWAE, PIWAE, MIWAE, CIWAE, VAE
ESTIMATORS = 15  # IWAE, STL, DReG, VR-IWAE, TVO, k = 5, 10, 50


def trained(
    target: str, budget: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Counter[tuple[object, ...]]:
    """How many jobs there are of each model, length and seed; all with the published evaluation."""
    monkeypatch.setenv("EVIDENCE_DATA", str(tmp_path))  # without OMNIGLOT
    found: Counter[tuple[object, ...]] = Counter()
    for words in STUDIES[target].sweeps(budget):  # type: ignore[arg-type]
        for job in request(*words).jobs:
            settings = job.settings
            assert (settings.eval.name, settings.eval.samples) == ("paper", 5000)
            length = settings.trainer.steps or f"{(3**settings.trainer.stages - 1) // 2} passes"
            found[settings.model.name, length, settings.seed] += 1
    return found


def test_the_day_of_table_1_is_40_passes_of_3_seeds_and_121_of_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    expected = {
        (model, "40 passes", seed): CELLS for model in ("one_layer", "two_layer") for seed in range(3)
    }
    assert trained("table1", "day", monkeypatch, tmp_path) == {
        **expected,
        **{
            (model, f"{passes} passes", 0): CELLS
            for model in ("one_layer", "two_layer")
            for passes in (1, 4, 13)
        },
        ("one_layer", "121 passes", 0): CELLS,
    }


@pytest.mark.parametrize(
    ("target", "count"),
    [("table3", CELLS), ("active-units", CELLS), ("critic", FORMS)],
)
def test_other_days_are_40_passes_of_3_seeds(
    target: str, count: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = trained(target, "day", monkeypatch, tmp_path)
    assert found == {("one_layer", "40 passes", seed): count for seed in range(3)}


def test_a_day_of_many_samples_is_13_passes_of_3_seeds(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = trained("tighter", "day", monkeypatch, tmp_path)
    assert found == {("one_layer", "13 passes", seed): BOUNDS for seed in range(3)}
    found = trained("estimators", "day", monkeypatch, tmp_path)
    last = Counter({("one_layer", "13 passes", seed): ESTIMATORS for seed in range(3)})
    alike = Counter({("one_layer", f"{passes} passes", 0): ESTIMATORS for passes in (1, 4, 13)})
    assert found == last + alike


def test_the_day_of_uivi_is_the_whole_protocol_of_one_seed_then_short_runs_of_two(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = trained("uivi", "day", monkeypatch, tmp_path)
    whole = {(model, 400_000, 0): count for model, count in (("semi_implicit", 4), ("explicit", 2))}
    short = {(model, 30_000, seed): count for (model, _, _), count in whole.items() for seed in (1, 2)}
    assert found == {**whole, **short}
    first, *_ = STUDIES["uivi"].sweeps("day")
    assert "data=mnist_fixed" in first


@pytest.mark.parametrize("target", STUDIES)
def test_every_budget_says_what_it_reaches(target: str) -> None:
    assert [*STUDIES[target].reaches] == [*BUDGETS]
