"""The toys of UIVI's paper: normalised densities, exact divergences, and fits that go on as if never stopped."""

import math
from pathlib import Path
from typing import Any

import pandas as pd
import problems
import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, kl_divergence

from evidence.errors import UserError
from evidence.models import LatentVariableModel
from experiments.uivi_toys import fits, study
from experiments.uivi_toys.fits import divergence, fit
from experiments.uivi_toys.gaussian_fit import fit_gaussian, gaussian_kl
from experiments.uivi_toys.methods import METHODS, NUM_INNER
from experiments.uivi_toys.targets import NoLikelihood, Target, targets, toy

NAMES = ["banana", "multimodal", "x_shaped"]
NO_DATA = torch.empty(1, 0)


def grid() -> tuple[Tensor, float]:
    """Points over all of the mass, and the area of each."""
    first = torch.linspace(-13, 13, 651, dtype=torch.float64)
    second = torch.linspace(-45, 12, 2401, dtype=torch.float64)
    area = (first[1] - first[0]) * (second[1] - second[0])
    return torch.cartesian_prod(first, second), area.item()


@pytest.mark.parametrize("name", NAMES)
def test_targets_are_normalised(name: str) -> None:
    points, area = grid()
    mass = targets(torch.float64)[name].log_prob(points).exp().sum() * area
    assert mass.item() == pytest.approx(1, abs=1e-6)  # what lies outside the grid, and the trapezoid rule


def test_targets_are_those_of_the_paper() -> None:
    z = torch.randn(50, 2, dtype=torch.float64)
    found = targets(torch.float64)

    def normal(mean: list[float], covariance: list[list[float]]) -> MultivariateNormal:
        return MultivariateNormal(torch.tensor(mean, dtype=z.dtype), torch.tensor(covariance, dtype=z.dtype))

    straight = torch.stack([z[:, 0], z[:, 1] + z[:, 0] ** 2 + 1], 1)
    eye = [[1.0, 0.0], [0.0, 1.0]]
    pairs = {
        "multimodal": (normal([-2, 0], eye), normal([2, 0], eye)),
        "x_shaped": (normal([0, 0], [[2, 1.8], [1.8, 2]]), normal([0, 0], [[2, -1.8], [-1.8, 2]])),
    }
    torch.testing.assert_close(
        found["banana"].log_prob(z), normal([0, 0], [[1, 0.9], [0.9, 1]]).log_prob(straight)
    )
    for name, (one, other) in pairs.items():
        expected = torch.logaddexp(one.log_prob(z), other.log_prob(z)) - math.log(2)
        torch.testing.assert_close(found[name].log_prob(z), expected)


@pytest.mark.parametrize("name", NAMES)
def test_the_divergence_of_a_gaussian_is_that_on_a_grid(name: str) -> None:
    """At the best fit, whose neighbours all lie above it."""
    density = targets(torch.float64)[name]
    best = fit_gaussian(density)
    points, area = grid()
    log_q = MultivariateNormal(best.mean, scale_tril=best.factor).log_prob(points)
    assert best.kl == pytest.approx(
        (log_q.exp() * (log_q - density.log_prob(points))).sum().item() * area, abs=1e-5
    )
    for shift in 0.05 * torch.randn(20, 5, dtype=torch.float64):
        factor = best.factor + torch.stack([torch.stack([shift[2], shift[2] * 0]), shift[3:]])
        assert gaussian_kl(density, best.mean + shift[:2], factor) > best.kl


def test_the_divergence_of_a_banana_from_a_gaussian_has_a_closed_form() -> None:
    """E|z_1| moments: with q = N(m, S), z_1^2 has mean m_1^2 + S_11; here m = (0, -2), S = I and Sigma's inverse A.

    E log p = -log 2 pi - log det Sigma / 2 - (A_11 + 2 A_12 E[z_1 t] + A_22 E t^2) / 2, t = z_2 + 1 + z_1^2: E t = 0,
    E t^2 = 1 + 2 and E[z_1 t] = 0.
    """
    determinant = 1 - 0.9**2
    expected_log_p = -math.log(2 * math.pi) - 0.5 * math.log(determinant) - 0.5 * (1 + 3) / determinant
    exact = -1 - math.log(2 * math.pi) - expected_log_p
    mean, factor = torch.tensor([0.0, -2.0], dtype=torch.float64), torch.eye(2, dtype=torch.float64)
    found = gaussian_kl(targets(torch.float64)["banana"], mean, factor)
    assert found.item() == pytest.approx(exact, abs=1e-10)


@pytest.mark.usefixtures("float64")
def test_the_divergence_of_a_semi_implicit_gaussian_is_exact_and_biased_up_where_noises_are_few() -> None:
    torch.manual_seed(3)
    posterior = problems.LinearSemiImplicitPosterior()
    target = MultivariateNormal(torch.tensor([0.3, -0.2]), torch.tensor([[1.2, 0.4], [0.4, 0.8]]))
    model = LatentVariableModel(Target(target), NoLikelihood(), posterior, [2])
    x = torch.zeros(1, problems.X_DIM)
    exact = kl_divergence(MultivariateNormal(torch.zeros(2), posterior.covariance().detach()), target).item()
    found = divergence(model, x, 20, 1000, 10_000)
    assert abs(found.kl - exact) < 4 * found.kl_se
    few = divergence(model, x, 20, 1000, 5)
    assert few.kl - exact > 5 * few.kl_se


def test_a_toy_has_no_data_and_draws_from_three_noises() -> None:
    model = toy(targets()["banana"])
    q = model.posterior(torch.empty(4, 0))
    z = q.rsample(q.noise(3))
    assert z.shape == (3, 4, 2)
    torch.testing.assert_close(model.log_joint(torch.empty(4, 0), z), targets()["banana"].log_prob(z))


def timeless(rows: list[dict[str, object]]) -> list[dict[str, object]]:
    return [{name: value for name, value in row.items() if name != "seconds_per_step"} for row in rows]


@pytest.mark.parametrize("method", METHODS)
def test_a_fit_broken_off_ends_with_the_bits_of_one_that_was_not(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fits, "REPORT_EVERY", 10)
    monkeypatch.setattr(fits, "DECAY_EVERY", 30)
    monkeypatch.setattr(fits, "NUM_NOISES", 50)
    whole = fit("x_shaped", method, 1, 60, tmp_path / "whole.pt")
    # after the rate has been decayed, within a segment
    fit("x_shaped", method, 1, 40, tmp_path / "parts.pt")
    torch.manual_seed(99)
    parts = fit("x_shaped", method, 1, 60, tmp_path / "parts.pt")
    assert [row["step"] for row in parts.rows] == [10, 20, 30, 40, 50, 60]
    assert timeless(parts.rows) == timeless(whole.rows)
    for one, other in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        assert torch.equal(one, other)
    shorter = fit("x_shaped", method, 1, 30, tmp_path / "parts.pt")  # takes nothing back
    assert shorter.rows == parts.rows


def test_the_methods_start_alike_and_report_what_they_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row has an acceptance where there are chains, and effective samples where there are weights."""
    monkeypatch.setattr(fits, "LEARNING_RATE", 0.0)
    monkeypatch.setattr(fits, "NUM_NOISES", 50)
    found = {method: fit("banana", method, 2, 2, tmp_path / f"{method}.pt") for method in METHODS}
    assert len({row["kl"] for fitted in found.values() for row in fitted.rows}) == 1
    rows = {method: fitted.rows[-1] for method, fitted in found.items()}
    assert {method for method, row in rows.items() if "acceptance" in row} == {"hmc"}
    weighted = {
        method: row["effective_samples"] for method, row in rows.items() if "effective_samples" in row
    }
    assert weighted.keys() == {"importance", "learned"}
    assert all(1 <= effective <= NUM_INNER for effective in weighted.values())


def test_the_time_of_a_step_leaves_out_the_divergence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(1000))
    monkeypatch.setattr(fits.time, "thread_time", lambda: float(next(clock)))
    monkeypatch.setattr(fits, "REPORT_EVERY", 4)
    monkeypatch.setattr(fits, "NUM_NOISES", 50)
    measured = fits.divergence

    def slow(*given: Any) -> fits.Divergence:
        for _ in range(100):
            next(clock)
        return measured(*given)

    monkeypatch.setattr(fits, "divergence", slow)
    assert [row["seconds_per_step"] for row in fit("banana", "sivi", 0, 8, tmp_path / "s.pt").rows] == [
        1 / 4
    ] * 2


def test_uivi_brings_q_nearer_than_a_gaussian(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fits, "REPORT_EVERY", 500)
    monkeypatch.setattr(fits, "NUM_NOISES", 1000)
    last = fit("multimodal", "hmc", 0, 500, tmp_path / "state.pt").rows[-1]
    assert last["kl"] + 5 * last["kl_se"] < fit_gaussian(targets(torch.float64)["multimodal"]).kl


def test_with_nothing_measured_no_claim_is_judged(tmp_path: Path) -> None:
    found = study.find(pd.DataFrame(), tmp_path)
    assert found.results.empty
    assert found.table.empty
    assert [claim.holds for claim in found.claims] == [None] * 4


def test_findings_come_from_what_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fits, "REPORT_EVERY", 2)
    monkeypatch.setattr(fits, "NUM_NOISES", 50)
    monkeypatch.setitem(study.LENGTHS, "quick", study.Length(16, (0,)))
    study.measure(tmp_path, "quick")
    found = study.find(pd.DataFrame(), tmp_path)
    assert list(found.results["step"]) == [16] * 12
    titles = [method.title for method in METHODS.values()]
    assert list(zip(found.table["target"], found.table["method"], strict=True)) == [
        (name, method) for name in ("banana", "multimodal", "x-shaped") for method in titles
    ]
    assert [bool(acceptance) for acceptance in found.table["acceptance"]] == [True, False, False, False] * 3
    assert (found.results["ms_per_step"] > 0).all()
    assert all(claim.holds is not None for claim in found.claims)
    assert all("one seed" in claim.evidence for claim in found.claims)
    assert all((tmp_path / picture.file).exists() for picture in found.pictures)


def test_a_fit_that_diverges_stops_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def diverging(name: str, method: str, *rest: Any) -> fits.Fit:
        if (name, method) == ("banana", "importance"):
            raise UserError("training has diverged")
        return fits.Fit(toy(targets()[name]), [{"source": "same"}])

    monkeypatch.setattr(study, "fit", diverging)
    with pytest.raises(UserError, match=r"banana by UIVI, importance, seed 0 \(training has diverged\)$"):
        study.measure(tmp_path, "quick")
    assert len(list(tmp_path.glob("*-s0.csv"))) == 11
