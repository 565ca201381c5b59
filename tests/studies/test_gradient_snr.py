"""The study of signal-to-noise ratios: exact ones of one sample, moments without bias, and slopes of made-up ratios."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from evidence.evaluation.gradients import ratios
from evidence.objectives import ELBO, IWAE, STL, DReG, Objective
from experiments.gradient_snr import gaussian, measuring, study
from experiments.gradient_snr.estimators import ESTIMATORS, KS


@pytest.mark.parametrize(
    ("objective", "exact"),
    [
        (ELBO(1), gaussian.OFFSET * 1.5**0.5),
        (IWAE(1), gaussian.OFFSET * 1.5**0.5),
        (STL(1), 2 * gaussian.OFFSET * 6**0.5),
        (DReG(1), 2 * gaussian.OFFSET * 6**0.5),
    ],
    ids=["elbo", "iwae", "stl", "dreg"],
)
def test_the_ratio_of_one_sample_is_exact(objective: Objective, exact: float) -> None:
    torch.manual_seed(0)
    sets = [ratios(measuring.gradients(objective, 1, 5_000)["encoder"]) for _ in range(40)]
    squared = torch.tensor([each.signal / each.variance for each in sets])
    assert abs(squared.mean() - exact**2) < 5 * squared.std() / 40**0.5


def test_signal_and_variance_have_no_bias() -> None:
    torch.manual_seed(0)
    sets = [ratios(torch.tensor([0.5, 0.0]) + torch.randn(4, 2).double()) for _ in range(5_000)]
    for name, exact in (("signal", 0.25), ("variance", 2.0)):
        values = torch.tensor([getattr(each, name) for each in sets])
        assert abs(values.mean() - exact) < 5 * values.std() / 5_000**0.5


def test_rows_of_a_batch_are_independent_draws_of_one_gradient() -> None:
    found = measuring.gradients(IWAE(3), 3, 7)
    for draws in found.values():
        assert draws.shape == (7, gaussian.DIM)
        assert len(draws.unique(dim=0)) == 7


def made_up(slope_of: dict[str, float]) -> pd.DataFrame:
    rows: list[dict[str, Any]] = [
        {
            "estimator": name,
            "part": part,
            "k": k,
            "seed": seed,
            "variance": 2.0,
            "direction": 1.0,
            "draws": 10,
        }
        | {"signal": 0.02 * k ** (2 * (slope if part == "encoder" else 0.5))}
        | {"source": "x", "machine": "m", "date": "d", "commit": "c"}
        for name, slope in slope_of.items()
        for part in ("encoder", "decoder")
        for k in KS
        for seed in (0, 1)
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize("wrong", [None, "IWAE", "DReG", "TVO, 5 points"])
def test_slopes_are_found_and_judged(wrong: str | None, tmp_path: Path) -> None:
    slopes = {name: each.slope + (0.3 if name == wrong else 0.0) for name, each in ESTIMATORS.items()}
    table = made_up(slopes)
    for seed, rows in table.groupby("seed"):
        rows.to_csv(tmp_path / f"gaussian-s{seed}.csv", index=False)
    found = study.find(pd.DataFrame(), tmp_path)
    ends = found.results[(found.results["k"] == KS[-1]) & (found.results["part"] == "encoder")]
    assert dict(zip(ends["estimator"], ends["slope"], strict=True)) == pytest.approx(slopes)
    expected = [wrong != "IWAE", wrong != "DReG", wrong is None, None]
    assert [claim.holds for claim in found.claims] == expected
    assert (tmp_path / "snr.png").exists()


@pytest.mark.parametrize(
    ("dreg", "level", "holds"), [(-0.2, 2.0, True), (0.2, 2.0, False), (-0.2, 0.5, False)]
)
def test_a_trained_model_is_judged(dreg: float, level: float, holds: bool, tmp_path: Path) -> None:
    table = made_up(dict.fromkeys(ESTIMATORS, -0.5) | {"DReG": dreg})
    is_dreg = table["estimator"] == "DReG"
    table = table.assign(model=study.TRAINED, signal=table["signal"] * level ** (2 * is_dreg))
    results = study._results(table[table["k"].isin(study.measuring.TRAINED_KS)])
    found = study.claims.judge(results, "13 of 3280 passes, one seed")
    assert [claim.holds for claim in found] == [None, None, None, holds]
    assert "one seed" in found[-1].evidence
    study.drawing.draw(results, tmp_path / "snr.png")
    assert (tmp_path / "snr.png").exists()


@pytest.mark.parametrize("rows", range(1, 4 * len(KS) * len(ESTIMATORS), 23))
def test_a_measurement_that_was_interrupted_is_reported(rows: int, tmp_path: Path) -> None:
    """Whatever is there: claims on what is missing are not judged."""
    table = made_up({name: each.slope for name, each in ESTIMATORS.items()})[:rows]
    table.to_csv(tmp_path / "gaussian-s0.csv", index=False)
    found = study.find(pd.DataFrame(), tmp_path)
    measured = set(found.results[found.results["k"] == KS[-1]]["estimator"])
    assert found.claims[2].holds is None or measured == set(ESTIMATORS)
    for claim in found.claims:
        assert claim.holds is None or claim.holds
        assert claim.holds is not None or "not measured" in claim.evidence
    trained = study._results(table.assign(model=study.TRAINED))
    assert study.claims.judge(trained, "")[-1].evidence


def test_without_measurements_nothing_is_claimed(tmp_path: Path) -> None:
    assert all(claim.holds is None for claim in study.find(pd.DataFrame(), tmp_path).claims)
