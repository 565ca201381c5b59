"""The study from rows of estimates to its claims, and its measurement on the model whose log p(x) is known."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from evidence.evaluation import Noise
from evidence.report import measurements
from experiments.bounds_and_truth import measuring, study
from experiments.bounds_and_truth.measuring import Annealing

TINY = Annealing(2, 4)


def rows(
    annealed: float = 0.0, gap: float = 0.02, doubtful: float = 1.0, spread: float = 1e-3, count: int = 40
) -> pd.DataFrame:
    """Made-up estimates: AIS is above L_S by `annealed`, and a share `doubtful` of k-hats is above the threshold."""
    random = np.random.default_rng(0)
    exact = -90 + random.normal(0, 5, count)
    is_above = np.arange(count) < doubtful * count
    found = {
        "image": np.arange(count),
        "exact": exact,
        "importance": exact + random.normal(0, 1e-3, count),
        "group": exact - 1 + random.normal(0, 1e-2, count),
        "jvi_1": exact - 0.2 + random.normal(0, 1e-2, count),
        "jvi_2": exact + 0.1 + random.normal(0, 1e-2, count),
        "ais": exact + annealed + random.normal(0, spread, count),
        "simulated_upper": exact,
        "simulated_lower": exact + gap,
        "khat": 0.5 + 0.4 * is_above,
        "khat_above": 1.0 * is_above,
        "effective_sample_size": 100.0,
        "ais_acceptance": 0.7,
        "chains": 8,
        "temperatures": 500,
        "source": "s",
        "machine": "m",
        "date": "d",
        "commit": "c",
    }
    return pd.DataFrame(found)


def holds(tables: dict[str, pd.DataFrame], trained: list[str]) -> list[bool | None]:
    return [claim.holds for claim in study._claims(tables, dict.fromkeys(trained))]


@pytest.mark.parametrize(
    ("exact", "trained", "expected"),
    [
        (rows(doubtful=0), rows(annealed=0.3), [True, True, True, True]),
        (rows(doubtful=0), rows(annealed=0.3, gap=0.9), [True, True, False, True]),
        (rows(annealed=-2), rows(annealed=-0.5, doubtful=0.4), [False, False, False, False]),
        (rows(annealed=0.2, doubtful=0), rows(annealed=0.1, spread=5.0), [False, None, None, True]),
    ],
)
def test_claims(exact: pd.DataFrame, trained: pd.DataFrame, expected: list[bool | None]) -> None:
    assert holds({study.LINEAR_GAUSSIAN: exact, "VAE k = 1": trained}, ["VAE k = 1"]) == expected


def test_what_was_not_measured_is_no_claim() -> None:
    assert holds({}, []) == [None] * 4
    assert holds({study.LINEAR_GAUSSIAN: rows()}, []) == [True, None, None, None]
    assert holds({"VAE k = 1": rows(annealed=0.3)}, ["VAE k = 1"]) == [None, True, True, None]


def test_the_known_model_is_measured_once_and_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "POINTS", 30)
    measuring.measure_linear_gaussian(tmp_path, TINY)
    table = measurements.read(tmp_path / measuring.EXACT, {})
    assert len(table) == 30
    assert (table["importance"] - table["exact"]).abs().mean() < 0.1
    assert (table["group"] < table["exact"]).mean() > 0.5
    monkeypatch.setattr(Noise, "of_batch", None)  # nothing is measured again
    measuring.measure_linear_gaussian(tmp_path, TINY)
    found = study.find(pd.DataFrame(), tmp_path)
    assert set(found.results["estimate"]) == set(study.ESTIMATES.values())
    assert (tmp_path / "estimates.png").exists()
    assert found.table["the others less"].tolist() == ["log p(x)"]
    assert len(found.claims) == 4
