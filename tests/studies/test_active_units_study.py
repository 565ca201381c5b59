"""Removing latent units, where what they are worth is known; and the study from its CSV files to its claims."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest
import torch
from frames import frame
from problems import Z_DIM, exact_log_evidence, images, with_exact_posterior
from torch import Tensor

from evidence import models
from evidence.distributions import DiagonalNormal, kl_divergence
from evidence.models import LatentVariableModel
from experiments.active_units import reading, study
from experiments.active_units.modes import modes
from experiments.active_units.removing import bounds, log_weights_without
from experiments.iwae_table1 import cells

pytestmark = pytest.mark.usefixtures("float64")

PIXELS, LATENT, DEAD = 12, 5, [1, 4]
SAMPLES = 7


def with_dead_units() -> tuple[LatentVariableModel, Tensor]:
    """The decoder does not see the dead units, and their posterior is the prior."""
    model = models.hierarchical(PIXELS, [LATENT], [[8]], "tanh", torch.full((PIXELS,), 0.4))
    first = next(layer for layer in model.likelihood.modules() if isinstance(layer, torch.nn.Linear))
    with torch.no_grad():
        first.weight[:, DEAD] = 0
        for head in model.posterior.mean, model.posterior.log_scale:
            head.weight[DEAD] = 0
            head.bias[DEAD] = 0
    return model, torch.bernoulli(torch.full((6, PIXELS), 0.5))


def kept(removed: Sequence[int], count: int) -> Tensor:
    is_kept = torch.ones(count, dtype=torch.bool)
    is_kept[list(removed)] = False
    return is_kept


@torch.no_grad()
def test_removing_dead_units_changes_nothing():
    model, x = with_dead_units()
    found = bounds(model, x, kept(DEAD, LATENT), SAMPLES)
    torch.testing.assert_close(found.removed, found.whole, rtol=1e-13, atol=0)


@torch.no_grad()
def test_removing_a_unit_whose_posterior_is_not_the_prior_takes_its_kl_away():
    """The decoder does not see it: what is left is its log p(z_u) - log q(z_u | x), whose mean is minus the KL."""
    model, x = with_dead_units()
    model.posterior.mean.bias[DEAD[0]] = 0.3
    model.posterior.log_scale.bias[DEAD[0]] = -0.2
    q = model.posterior(x)
    dead = q._replace(mean=q.mean[:, DEAD], scale=q.scale[:, DEAD])
    standard = DiagonalNormal(torch.zeros(len(DEAD)), torch.ones(len(DEAD)))
    noise = q.noise(20_000)
    change = log_weights_without(model, q, x, noise, kept(DEAD, LATENT)) - model.log_weights_at(noise, q, x)
    error = change.std(0) / len(change) ** 0.5
    assert ((change.mean(0) - kl_divergence(dead, standard)).abs() / error).max() < 4.5


@torch.no_grad()
def test_removing_nothing_changes_nothing():
    model, x = with_dead_units()
    found = bounds(model, x, kept([], LATENT), SAMPLES)
    torch.testing.assert_close(found.removed, found.whole, rtol=1e-13, atol=0)


@torch.no_grad()
def test_removing_an_active_unit_costs_what_it_does_in_the_linear_gaussian_model():
    """W has orthogonal columns and q is the posterior, so w is constant: p(x) without the unit's column."""
    model, x = with_exact_posterior(), images(5)
    found = bounds(model, x, kept([1], Z_DIM), SAMPLES)
    torch.testing.assert_close(found.whole, exact_log_evidence(model, x))
    model.likelihood.weight[:, 1] = 0
    torch.testing.assert_close(found.removed, exact_log_evidence(model, x))
    assert (found.whole - found.removed).abs().max() > 0.1


@pytest.mark.parametrize(
    ("activities", "are_two"),
    [
        ([1e-5] * 20 + [0.5] * 20, True),
        ([1e-5] * 20 + [0.01] * 3 + [0.5] * 20, True),
        (
            [1e-5] * 5 + [0.01] * 3 + [0.5] * 20,
            False,
        ),  # five are less than twice the three near the threshold
        ([0.5] * 40, False),
        ([0.0] * 20 + [0.02] * 15 + [0.5] * 15, False),
        ([10 ** (-4 + 4 * place / 49) for place in range(50)], False),  # evenly spread over four decades
    ],
)
def test_two_modes_are_told_from_one(activities: list[float], are_two: bool):
    assert modes(activities).are_two is are_two


def test_bands_are_as_wide_as_that_around_the_threshold():
    found = modes([0.0031, 0.029, 0.0034, 0.031, 0.27, 0.29, 2e-4, 1.7e-3])
    assert (found.near, found.below, found.above) == (2, 2, 2)


def test_nothing_measured_claims_nothing(tmp_path: Path):
    findings = study.find(pd.DataFrame(), tmp_path)
    assert findings.results.empty
    assert findings.table.empty
    assert [claim.holds for claim in findings.claims] == [None] * 3


def written(folder: Path, vae: Sequence[int], iwae: Sequence[int], change: float) -> pd.DataFrame:
    """Table 1's runs with so many active units at k = 1, 5, 50, and what measuring leaves behind of them."""
    made = [
        {"objective": objective, "k": k, "stages": "3", "test/active_units": number}
        for objective, numbers in (("vae", vae), ("iwae", iwae))
        for k, number in zip([1, 5, 50], numbers, strict=True)
    ]
    runs = frame(*made)
    for _, run in runs.iterrows():
        origin = {"machine": "m", "date": "d", "commit": "c", "source": "s", "record": run["record"]}
        number = run["test/active_units"]
        activities = pd.DataFrame({"unit": range(50), "activity": [0.4] * number + [1e-5] * (50 - number)})
        activities.assign(**origin).to_csv(folder / f"activity-{run['run']}.csv", index=False)
        nll = pd.DataFrame({"image": [0, 1, 2], "samples": 500, "whole": [90.0, 95.0, 85.0]})
        nll["removed"] = nll["whole"] + [change, change + 0.001, change - 0.001]
        nll.assign(**origin).to_csv(folder / f"removal-{run['run']}-500.csv", index=False)
    return runs


def test_the_published_numbers_bear_the_claims_out(tmp_path: Path):
    runs = written(tmp_path, [19, 20, 20], [19, 22, 25], 0.01)
    findings = study.find(runs, tmp_path)
    assert all(claim.holds for claim in findings.claims), findings.claims
    assert findings.results["change"].tolist() == pytest.approx([0.01] * 6)
    assert findings.results["published_active_units"].tolist() == [19, 20, 20, 19, 22, 25]
    assert findings.table["runs"].tolist()[0] == "vae-1-3-0-2026-01-01"
    assert all((tmp_path / picture.file).stat().st_size for picture in findings.pictures)
    assert {"machine", "date", "commit", "budget"} <= set(findings.results)


def test_models_of_unlike_lengths_are_not_compared(tmp_path: Path):
    runs = written(tmp_path, [19, 20, 20], [19, 22, 25], 0.01)
    runs.loc[5, "stages"] = "4"
    (claim,) = (each for each in study.find(runs, tmp_path).claims if "rise with k" in each.statement)
    assert claim.holds is None
    assert "not compared: trained 13 of 3280 passes and 40 of 3280 passes" in claim.evidence


def test_other_numbers_refute_them(tmp_path: Path):
    runs = cells.one_layer(written(tmp_path, [20, 30, 40], [40, 30, 30], 0.5)).runs
    assert [claim.holds for claim in reading.claims(reading.results(tmp_path, runs), runs)] == [
        True,
        False,
        False,
    ]


def test_models_without_inactive_units_say_nothing_about_their_removal(tmp_path: Path):
    runs = cells.one_layer(written(tmp_path, [50, 50, 50], [50, 50, 50], 0.0)).runs
    assert reading.claims(reading.results(tmp_path, runs), runs)[-1].holds is None


def test_what_was_measured_of_other_runs_or_records_is_no_figure_of_the_study(tmp_path: Path):
    runs = written(tmp_path, [19, 20, 20], [19, 22, 25], 0.01)
    removal = tmp_path / "removal-iwae-50-3-0-2026-01-01-500.csv"
    of_its_rerun = tmp_path / "removal-iwae-50-3-0-2026-01-01-2-5000.csv"  # a record of its own, <run>-2
    pd.read_csv(removal).assign(removed=0.0, samples=5000, record="another").to_csv(of_its_rerun, index=False)
    activity = pd.read_csv(tmp_path / "activity-vae-50-3-0-2026-01-01.csv")
    activity.to_csv(tmp_path / "activity-vae-50-8-0-2026-01-01.csv", index=False)  # of a run that was deleted
    activity.assign(record="replaced").to_csv(tmp_path / "activity-vae-50-3-0-2026-01-01.csv", index=False)
    found = study.find(runs, tmp_path)
    assert found.results["change"].tolist() == pytest.approx([0.01] * 5)
    assert "VAE k = 50" not in set(found.table["model"])
    assert found.claims[1].evidence == "not all six models are there"
    assert any("measured by other code than today's" in note for note in found.notes)
