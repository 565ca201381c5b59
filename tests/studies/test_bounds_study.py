"""L_k and the variance of log w-bar where their values are known, and the study from its CSV files to its claims."""

import io
import math
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest
import torch
from problems import deviation
from torch import Tensor

from evidence.data import evenly_spaced_rows
from evidence.report import measurements
from experiments.bounds import estimates, measuring, study
from experiments.bounds.linear_gaussian import linear_gaussian, weight_variance

pytestmark = pytest.mark.usefixtures("float64")


def points(count: int) -> Tensor:
    return linear_gaussian().likelihood.evidence().sample((count,))


def test_the_weights_average_to_the_evidence_with_the_variance_in_closed_form():
    model, x = linear_gaussian(), points(4)
    log_p = model.likelihood.evidence().log_prob(x)
    with torch.no_grad():
        w = (model.log_weights(x, 200_000) - log_p).exp()
    assert deviation(w, torch.ones(4)) < 4.5
    assert deviation((w - 1).square(), weight_variance(model, x)) < 4.5


def test_the_variance_is_infinite_where_the_posterior_approximation_is_too_narrow(
    monkeypatch: pytest.MonkeyPatch,
):
    model, x = linear_gaussian(), points(3)
    monkeypatch.setattr("experiments.bounds.linear_gaussian.WIDENING", 0.7)
    assert weight_variance(model, x).isinf().all()


def test_the_ladder_is_unbiased_for_lognormal_weights():
    """log w ~ N(0, s^2): L_1 = 0, Var log w = s^2; L_2 = E log cosh(d / 2) for the difference d ~ N(0, 2 s^2)."""
    scale, repeats = 1.5, 200
    nodes = torch.linspace(-12, 12, 20_001)
    density = torch.exp(-nodes.square() / 2) / math.sqrt(2 * math.pi)
    bound_2 = torch.trapezoid(density * (nodes * scale / math.sqrt(2)).cosh().log(), nodes)
    second = torch.trapezoid(density * (nodes * scale / math.sqrt(2)).cosh().log().square(), nodes)
    variance_2 = second - bound_2.square() + scale**2 / 2  # the mean of two, independent of their difference
    exact = {1: (0.0, scale**2), 2: (bound_2, variance_2)}
    found: dict[int, list[tuple[float, float]]] = {1: [], 2: []}
    for _ in range(repeats):
        for draws in estimates.ladder(lambda: scale * torch.randn(estimates.POOL), 2):
            if draws.k in found:
                row = estimates.moments(draws)
                found[draws.k].append((row["bound"], row["variance"]))
    for k, rows in found.items():
        assert deviation(torch.tensor(rows), torch.tensor(exact[k])) < 4.5


def test_neighbouring_rungs_share_no_weights():
    pools = iter(torch.full((estimates.POOL,), float(number)) for number in range(4))
    means = [draws.log_means.round().unique().tolist() for draws in estimates.ladder(lambda: next(pools), 4)]
    assert means[::2] == [[0.0, 2.0]] * 6
    assert means[1::2] == [[1.0, 3.0]] * 5


def test_groups_are_disjoint_and_complete():
    pool = torch.randn(estimates.POOL)
    for draws in estimates.ladder(lambda: pool, 2):
        assert len(draws.log_means) == estimates.POOL // draws.k
        total = (draws.log_means + math.log(draws.k)).logsumexp(0)
        torch.testing.assert_close(total, pool.logsumexp(0))


def test_standard_errors_are_over_images_and_over_samples():
    rows = pd.DataFrame(
        {
            "image": [0, 1, 0, 1],
            "k": [1, 1, 2, 2],
            "draws": [4, 4, 2, 2],
            "bound": [-3.0, -1.0, -2.0, -0.5],
            "variance": [2.0, 6.0, 1.0, 2.0],
        }
    )
    first, second = (row for _, row in estimates.summary(rows).iterrows())
    assert first["bound"] == -2
    assert first["bound_se"] == pytest.approx(1)
    assert first["sampling_se"] == pytest.approx(math.sqrt((2 / 4 + 6 / 4) / 4))
    assert (second["rise"], second["rise_se"]) == pytest.approx((0.75, 0.25))
    assert (second["fall"], second["fall_se"]) == pytest.approx((2.5, 1.5))


def test_what_is_measured_is_not_measured_again_and_more_is_added(tmp_path: Path):
    asked: list[int] = []

    def rows(images: Sequence[int]) -> list[dict[str, int]]:
        asked.extend(images)
        return [{"image": image, "k": k} for image in images for k in (1, 2)]

    for count in (2, 4):
        images = evenly_spaced_rows(8, count).tolist()
        measurements.complete(tmp_path / "a.csv", images, rows, {"source": "s"})
    assert asked == [0, 4, 2, 6]
    assert len(pd.read_csv(tmp_path / "a.csv")) == 8


def test_an_interruption_keeps_what_was_written(tmp_path: Path):
    def rows(images: Sequence[int]) -> list[dict[str, int]]:
        if 3 in images:
            raise KeyboardInterrupt
        return [{"image": image} for image in images]

    with pytest.raises(KeyboardInterrupt):
        measurements.complete(tmp_path / "a.csv", range(5), rows, {"source": "s"}, per_write=2)
    assert pd.read_csv(tmp_path / "a.csv")["image"].tolist() == [0, 1]


def test_nothing_measured_claims_nothing(tmp_path: Path):
    findings = study.find(pd.DataFrame(), tmp_path)
    assert findings.results.empty
    assert findings.table.empty
    assert [claim.holds for claim in findings.claims] == [None] * 4


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The file of the linear-Gaussian model."""
    folder = tmp_path_factory.mktemp("measured")
    measuring.measure_linear_gaussian(folder, 20)
    return (folder / "ladder-linear_gaussian.csv").read_bytes()


def test_the_linear_gaussian_model_bears_the_derivation_out(tmp_path: Path, measured: bytes):
    (tmp_path / "ladder-linear_gaussian.csv").write_bytes(measured)
    findings = study.find(pd.DataFrame(), tmp_path)
    rises, falls, below, converges = findings.claims
    assert all(claim.holds for claim in (rises, falls, below, converges)), findings.claims
    assert all((tmp_path / picture.file).stat().st_size for picture in findings.pictures)
    assert {"machine", "date", "commit", "budget"} <= set(findings.results)


def test_a_bound_that_sinks_refutes_the_claim(
    tmp_path: Path, measured: bytes, monkeypatch: pytest.MonkeyPatch
):
    for picture in "bounds", "gaps":
        monkeypatch.setattr(f"experiments.bounds.drawing.{picture}", lambda *_: None)
    path = tmp_path / "ladder-linear_gaussian.csv"
    rows = pd.read_csv(io.BytesIO(measured))
    for k, shift in (100, -0.5), (5000, 0.5):
        rows.loc[rows["k"] == k, "bound"] += shift
        rows.loc[rows["k"] == k, "gap"] -= shift
    rows.loc[rows["k"] == 200, "variance"] += 1
    rows.to_csv(path, index=False)
    assert [claim.holds for claim in study.find(pd.DataFrame(), tmp_path).claims] == [False] * 4


@pytest.mark.parametrize("budget", ["quick", "day", "paper"])
def test_only_the_two_measured_cells_are_trained(budget: study.Budget):
    asked = [
        [each for each in line if each.startswith(("objective", "k=", "seed"))]
        for line in study.sweeps(budget)
    ]
    assert asked == [["seed=0", "objective=vae", "k=1"], ["seed=0", "objective=iwae", "k=50"]]
