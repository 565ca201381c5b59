"""Evaluation against exact log p(x), and active units on a model whose dead ones are known."""

import math
import shutil
from typing import Any

import problems
import pytest
import torch
from torch import Tensor, nn

from evidence import evaluation, models
from evidence.distributions import SemiImplicit, kl_divergence
from evidence.evaluation import (
    ImportanceSampling,
    Noise,
    SemiImplicitSampling,
    active_units,
    activity,
    evaluate,
    importance,
    log_mixture,
    score,
)
from evidence.models import LatentVariableModel
from evidence.numerics import log_mean_exp
from evidence.streams import TEST, forked_rng

pytestmark = pytest.mark.usefixtures("float64")

CPU = torch.device("cpu")


def silent(_: int) -> None: ...


@torch.no_grad()
def test_log_evidence_with_the_exact_posterior_is_exact_with_one_sample() -> None:
    model, x = problems.with_exact_posterior(), problems.images(6)
    torch.testing.assert_close(
        score(model, x, 1, 100).weights.log_evidence, problems.exact_log_evidence(model, x)
    )


@torch.no_grad()
def test_weights_average_to_the_evidence_and_the_bound_is_below_it() -> None:
    model, x = problems.linear_gaussian(), problems.images(3)
    exact = problems.exact_log_evidence(model, x)
    scores = (score(model, x, 20, 100).weights for _ in range(3000))
    ratios = torch.stack([(weights.log_evidence - exact).exp() for weights in scores])
    assert problems.deviation(ratios, torch.ones(3)) < 5
    gaps = ratios.log()
    assert (gaps.mean(0) < -5 * gaps.std(0) / 3000**0.5).all()


@torch.no_grad()
@pytest.mark.parametrize("rows", [1, 10, 17, 10_000])
def test_chunked_is_unchunked(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same noise, cut into chunks of any size, gives the same sums."""
    model, x = problems.linear_gaussian(), problems.images(3)
    q = model.posterior(x)
    noise = q.noise(25)
    supply = iter(noise)
    monkeypatch.setattr(type(q), "noise", lambda self, size: torch.stack([next(supply) for _ in range(size)]))
    found = score(model, x, 25, rows)
    z, log_q = q.rsample_and_log_prob(noise)
    log_w = model.log_joint(x, z) - log_q
    torch.testing.assert_close(found.weights.log_evidence, log_mean_exp(log_w))
    torch.testing.assert_close(found.weights.elbo, log_w.mean(0))
    torch.testing.assert_close(found.kl, (log_q - model.prior().log_prob(z)).mean(0))


@torch.no_grad()
def test_no_chunk_is_larger_than_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = problems.linear_gaussian(), problems.images(4)
    sizes = []
    forward = type(model.likelihood).forward
    monkeypatch.setattr(
        type(model.likelihood),
        "forward",
        lambda self, z: sizes.append(z.shape[:-1].numel()) or forward(self, z),
    )
    score(model, x, 33, 20)
    assert max(sizes) <= 20
    assert sum(sizes) == 33 * 4


@torch.no_grad()
def test_the_elbo_and_kl_are_the_closed_forms() -> None:
    model, x = problems.linear_gaussian(), problems.images(3)
    draws = [score(model, x, 50, 1000) for _ in range(400)]
    elbo = torch.stack([draw.weights.elbo for draw in draws])
    assert problems.deviation(elbo, problems.exact_elbo(model, x)) < 5
    kl = torch.stack([draw.kl for draw in draws])
    assert problems.deviation(kl, kl_divergence(model.posterior(x), model.prior())) < 5


@torch.no_grad()
def test_the_mixture_by_matrix_products_is_the_direct_sum() -> None:
    z, means, scale = torch.randn(5, 3, 2), torch.randn(7, 3, 2) + 4, torch.tensor([0.05, 0.4])
    direct = -0.5 * ((z.unsqueeze(1) - means) / scale).square().sum(-1)
    direct = direct.logsumexp(1) - scale.log().sum() - math.log(2 * math.pi)
    for max_elements in (1, 40, 10_000):
        torch.testing.assert_close(log_mixture(z, means, scale, max_elements), direct)


@torch.no_grad()
def test_the_mixture_keeps_its_digits_far_from_zero() -> None:
    """In float32: by squares of uncentred means it would be wrong by nats."""
    means = (torch.randn(50, 3, 2) + 1_000).float()
    z, scale = means[:5] + 0.1 * torch.randn(5, 3, 2).float(), torch.full((2,), 0.1)
    exact = log_mixture(z.double(), means.double(), scale.double(), 10_000)
    found = log_mixture(z, means, scale.float(), 10_000)
    torch.testing.assert_close(found.double(), exact, rtol=0, atol=1e-3)


def semi_implicit_ratios(num_samples: int, num_noises: int, repeats: int) -> dict[str, Tensor]:
    model, x = problems.fitting_semi_implicit_gaussian(), problems.images(2)
    exact = problems.exact_log_evidence(model, x)
    draws = [
        evaluation.score_semi_implicit(model, x, num_samples, num_noises, 300)._asdict()
        for _ in range(repeats)
    ]
    return {name: torch.stack([(draw[name] - exact).exp() for draw in draws]) for name in draws[0]}


@torch.no_grad()
def test_with_the_generating_noise_the_mixture_is_unbiased_and_without_it_biased_up() -> None:
    ratios = semi_implicit_ratios(5, 4, 3000)
    assert problems.deviation(ratios["mixture"], torch.ones(2)) < 5
    mixture = ratios["mixture"].log()
    assert (mixture.mean(0) < -5 * mixture.std(0) / 3000**0.5).all()  # a lower bound on log p(x)
    fresh = ratios["fresh"].log()
    assert (fresh.mean(0) > 5 * fresh.std(0) / 3000**0.5).all()  # a mean log above log p(x): no lower bound


@torch.no_grad()
def test_all_three_estimates_approach_the_evidence() -> None:
    for name, ratio in semi_implicit_ratios(200, 600, 20).items():
        assert (ratio.log().mean(0).abs() < 0.05).all(), name


@torch.no_grad()
def test_the_gaussian_judge_is_unbiased_and_wider_than_q() -> None:
    ratios = semi_implicit_ratios(10, 60, 1500)
    assert problems.deviation(ratios["gaussian"], torch.ones(2)) < 5
    model, x = problems.semi_implicit_gaussian(), problems.images(1)
    q = model.posterior(x)
    fitted = evaluation.widened_gaussian(q.mean(q.noise(200_000)), q.scale)
    torch.testing.assert_close(
        fitted.covariance_matrix[0], 1.3 * model.posterior.covariance(), rtol=0.02, atol=0.01
    )


class PartlyDead(nn.Module):
    """Four latent units: two follow x, one hardly (variance 0.003), one not at all; all of them noisy."""

    GAINS = torch.tensor([1.0, -0.3, 0.055, 0.0])

    def forward(self, x: Tensor) -> SemiImplicit:
        part_x = x[:, :1] * self.GAINS.to(x.dtype)
        return SemiImplicit(lambda eps: part_x + 2.0 * eps, torch.full((4,), 0.5), x.shape[0], 4)


def partly_dead() -> LatentVariableModel:
    model = problems.semi_implicit_gaussian()
    likelihood = problems.LinearLikelihood()
    likelihood.weight = nn.Parameter(torch.randn(problems.X_DIM, 4))
    prior = type(model.prior)(4)
    return LatentVariableModel(prior, likelihood, PartlyDead(), [3, 1])


@torch.no_grad()
def test_active_units_are_those_that_vary_with_x_however_noisy_their_estimates() -> None:
    """Twenty samples each: a noise variance of 4/20 in every mean, twenty times the threshold."""
    model, x = partly_dead(), torch.randn(20_000, problems.X_DIM)
    means_a, means_b = evaluation.posterior_means(model, x, 20)
    assert not torch.equal(means_a, means_b)
    assert active_units(means_a, means_b).tolist() == [True, True, False, False]
    found = activity(means_a, means_b)
    error = (4 / 20) / 20_000**0.5  # of the covariance of two independent noises
    assert (
        (found - PartlyDead.GAINS.double().square()).abs() < 5 * (error + 0.02 * PartlyDead.GAINS**2)
    ).all()
    assert active_units(means_a, means_a).all()  # the fault this guards against: noise reused in both halves


@torch.no_grad()
def test_evaluate_gives_each_layers_units_and_a_positive_nll_with_its_error() -> None:
    model, x = partly_dead(), torch.randn(600, problems.X_DIM)
    found = evaluate(model, x, SemiImplicitSampling(20, 30, 1000), silent)
    assert found.metrics["active_units"] == found.metrics["active_units_1"] == 2
    assert found.metrics["active_units_2"] == 0
    assert [len(layer) for layer in found.activities] == [3, 1]
    assert set(found.metrics) >= {"nll", "nll_se", "nll_mixture", "nll_fresh", "nll_gaussian"}
    assert found.metrics["nll"] == found.metrics["nll_mixture"]
    assert "elbo" not in found.metrics


@torch.no_grad()
def test_evaluate_averages_minus_the_log_evidence_over_images() -> None:
    model, x = problems.with_exact_posterior(), problems.images(250)  # three batches, the last one short
    seen: list[int] = []
    found = evaluate(model, x, ImportanceSampling(3, 1000), seen.append)
    exact = -problems.exact_log_evidence(model, x)
    assert sum(seen) == 250
    assert found.metrics["nll"] == pytest.approx(exact.mean().item())
    assert found.metrics["nll_se"] == pytest.approx(exact.std().item() / 250**0.5)
    assert found.metrics["elbo"] == pytest.approx(-found.metrics["nll"])
    assert found.metrics["effective_sample_size"] == pytest.approx(3)


@torch.no_grad()
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs g++")
@pytest.mark.parametrize("latent", [[50], [20, 10]], ids=["one layer", "two layers"])
@torch.no_grad()
def test_fused_scores_are_those_as_they_stand_and_a_thousandth_of_a_nat_from_float64(
    latent: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the same samples. A last, smaller chunk, here of 10 samples or of 30 images, is not compiled."""
    model = with_large_logits(latent)
    x = (torch.rand(130, 784) < 0.2).byte()

    def scored(dtype: torch.dtype, compiled: bool) -> dict[str, float]:
        torch.set_default_dtype(dtype)  # the fixture sets it back
        noise = Noise(6, TEST, torch.arange(130))
        return evaluate(
            model.to(dtype), x, ImportanceSampling(50, 2000, compiled), silent, noise=noise
        ).metrics

    fused = scored(torch.float32, True)
    graph, calls = importance._fused_log_ratios(), []

    def counted(*arguments: Any) -> Any:
        calls.append((arguments[3], len(arguments[2])))
        return graph(*arguments)

    monkeypatch.setattr(importance, "_fused_log_ratios", lambda: counted)
    assert scored(torch.float32, True) == fused
    assert calls == [(20, 100), (20, 100)]
    assert scored(torch.float32, False) == pytest.approx(fused, rel=1e-5)
    assert scored(torch.float64, False) == pytest.approx(fused, rel=1e-5)
    assert scored(torch.float64, False)["nll"] == pytest.approx(fused["nll"], abs=1e-3)


def with_large_logits(latent: list[int]) -> LatentVariableModel:
    """A model of MNIST's size, its weights so large that logits go as far as a trained model's."""
    torch.manual_seed(3)
    hidden = [[200, 200], [100, 100]][: len(latent)]
    model = models.hierarchical(784, latent, hidden, "tanh", 0.3 * torch.rand(784))
    for parameter in model.likelihood.parameters():
        parameter.mul_(2.5)
    return model


def test_the_same_seed_scores_the_same_and_training_goes_on_unmoved() -> None:
    model, x = problems.linear_gaussian(), problems.images(50)

    def scored(seed: int) -> float:
        with forked_rng(CPU, seed, 100):
            return evaluate(model, x, ImportanceSampling(5, 100), silent).metrics["nll"]

    before = torch.get_rng_state()
    first = scored(1)
    assert torch.equal(before, torch.get_rng_state())
    assert scored(1) == first != scored(2)
