"""The critic study: moments of a gradient against exact ones, and findings from runs and gradients made up."""

from pathlib import Path
from typing import Any

import pandas as pd
import problems
import pytest
import torch
from frames import frame
from torch import Tensor
from torch.distributions import MultivariateNormal, kl_divergence

from evidence.config import compose
from evidence.models import LatentVariableModel
from evidence.objectives import ELBO, Objective
from experiments.critic import measuring, study
from experiments.critic.gradients import FLOOR, FORMS, Baselines, FixedCritic, encoder_moments, moments

CONF = Path(__file__).resolve().parents[2] / "conf"
MEAN = torch.tensor([0.7, -0.2, 0.0, 1.5], dtype=torch.float64)
SCALE = torch.tensor([1.0, 2.0, 0.5, 0.0], dtype=torch.float64)  # the last one never moves


def gaussian() -> Tensor:
    return MEAN + SCALE * torch.randn(4, dtype=torch.float64)


def deviation(values: list[float], exact: float) -> float:
    """Of the mean from the exact value, in standard errors."""
    found = torch.tensor(values, dtype=torch.float64)
    return float((found.mean() - exact).abs() / (found.std() / len(found) ** 0.5))


def test_moments_are_those_of_all_draws_at_once() -> None:
    draws = torch.stack([gaussian() for _ in range(50)])
    found = moments(iter(draws).__next__, 50)
    mean, variance = draws.mean(0), draws.var(0)
    assert found.variance == pytest.approx(variance.sum().item())
    assert found.signal == pytest.approx((mean.square().sum() - variance.sum() / 50).item())
    assert found.snr == pytest.approx((mean.abs() / draws.std(0))[:3].median().item())


def test_signal_and_variance_have_no_bias_however_few_the_draws() -> None:
    found = [moments(gaussian, 3) for _ in range(4000)]
    assert deviation([each.signal for each in found], MEAN.square().sum().item()) < 4
    assert deviation([each.variance for each in found], SCALE.square().sum().item()) < 4


def test_without_a_mean_the_snr_is_the_noise_floor() -> None:
    size, num_draws = 20_000, 1000
    found = moments(lambda: torch.randn(size), num_draws).snr * num_draws**0.5
    density = 2 * torch.distributions.Normal(0.0, 1.0).log_prob(torch.tensor(FLOOR)).exp().item()
    assert abs(found - FLOOR) < 5 / (2 * density * size**0.5)  # the standard error of a median


def problem() -> tuple[LatentVariableModel, Tensor, Baselines]:
    """q is wider than the posterior, so that weights are bounded."""
    model, x = problems.linear_gaussian(), problems.images(1)
    with torch.no_grad():
        model.posterior.log_scale.fill_(-0.2)
    evidence, elbo = problems.exact_log_evidence(model, x), problems.exact_elbo(model, x)
    return model, x, Baselines(evidence.detach(), elbo.detach())


def squared_norm(value: Tensor, model: LatentVariableModel) -> float:
    return sum(part.square().sum().item() for part in problems.gradients(value, model.posterior).values())


def wake_phase(model: LatentVariableModel, x: Tensor) -> Tensor:
    """-KL(p(z | x) || q(z | x)), whose gradient is the unbounded path form's where exp(C) = p(x)."""
    exact = problems.with_exact_posterior()
    p, q = exact.posterior(x), model.posterior(x)
    return -kl_divergence(
        MultivariateNormal(p.mean.detach(), torch.diag_embed(p.scale.detach().square().expand_as(p.mean))),
        MultivariateNormal(q.mean, torch.diag_embed(q.scale.square())),
    ).sum()


def signals(objective: Objective, model: LatentVariableModel, x: Tensor) -> list[float]:
    return [encoder_moments(objective, model, x, 5).signal for _ in range(200)]


@pytest.mark.usefixtures("float64")
def test_the_literal_form_has_no_encoder_gradient_and_the_others_have_theirs() -> None:
    model, x, baselines = problem()
    elbo, wake = (
        squared_norm(problems.exact_elbo(model, x).sum(), model),
        squared_norm(wake_phase(model, x), model),
    )
    exact = {study.REFERENCE: elbo, "path, unbounded": wake, study.LITERAL: 0.0}
    found = {form: signals(FORMS[form](2, baselines), model, x) for form in exact}
    for form, value in exact.items():
        assert deviation(found[form], value) < 4, form
    for form in (study.REFERENCE, "path, unbounded"):
        assert deviation(found[form], 0.0) > 5, form


@pytest.mark.usefixtures("float64")
def test_the_encoder_form_elbo_has_the_vaes_encoder_gradient() -> None:
    model, x, baselines = problem()
    found = []
    for objective in (ELBO(3), FixedCritic(3, "elbo", 0.5, baselines.evidence)):
        torch.manual_seed(5)
        found.append(encoder_moments(objective, model, x, 4))
    assert found[0] == pytest.approx(found[1])


@pytest.mark.usefixtures("float64")
def test_a_fixed_critic_stays_and_weighs_from_the_first_draw() -> None:
    model, x, _ = problem()
    objective = FixedCritic(1, "path", None, torch.tensor([-3.0]))
    for _ in range(3):
        torch.manual_seed(8)
        weight = objective(model, x).metrics["critic/weight"]
        torch.manual_seed(8)
        torch.testing.assert_close(weight, (model.log_weights(x, 1) + 3).exp().mean().detach())


@pytest.mark.parametrize("budget", ["quick", "paper"])
def test_the_sweeps_are_seven_forms_of_equal_decoder_passes(budget: Any) -> None:
    jobs = []
    for typed in study.sweeps(budget):
        arguments, _ = compose.read_arguments([each for each in typed if each != "-m"])
        jobs += [job.settings for job in compose.request(CONF, arguments).jobs]
    seeds = {job.seed for job in jobs}
    assert seeds == ({0} if budget == "quick" else {0, 1, 2})
    assert len(jobs) == 7 * len(seeds)
    for job in jobs:
        assert (job.k, job.name, job.model.name, job.data.name) == (5, "critic", "one_layer", "mnist")
        assert job.trainer.stages == {"quick": 3, "day": 4, "paper": 8}[budget]


def made_up_runs() -> pd.DataFrame:
    """A VAE and every form, two seeds each; only path with evidence beats the VAE."""
    variants = [
        ("vae", "kl=sampled", 100.0),
        ("iwae", "num_exact=None", 98.0),
        ("critic", "encoder=path,target=evidence,bound=0.5,warmup=2000", 99.5),
        ("critic", "encoder=literal,target=elbo,bound=0.5,warmup=2000", 104.0),
    ]
    made = [
        {"objective": objective, "variant": variant, "test/nll": nll + seed, "seed": seed}
        | ({"critic/clipped_fraction": 0.4} if objective == "critic" else {})
        for objective, variant, nll in variants
        for seed in (0, 1)
    ]
    return frame(*({"k": 5, "stages": "2", "test/active_units": 20.0, **run} for run in made))


VAE = "vae-5-2-0-2026-01-01"


def made_up_gradients(literal: float) -> pd.DataFrame:
    rows = []
    for image in range(5):
        for form in FORMS:
            for k in measuring.KS:
                signal = literal if form == study.LITERAL else 0.5
                row = {"image": image, "form": form, "k": k, "signal": signal + 0.001 * (image - 2)}
                row |= {"variance": 10.0, "snr": 0.1, "num_draws": measuring.DRAWS, "run": VAE, "source": "s"}
                row |= {"record": f"record of {VAE}", "budget": "4 of 3280 passes"}
                rows.append(row | {"machine": "m", "date": "d", "commit": "c"})
    return pd.DataFrame(rows)


def test_findings_judge_each_form_by_its_difference_from_the_vae(tmp_path: Path) -> None:
    made_up_gradients(0.0).to_csv(tmp_path / f"gradients-{VAE}.csv", index=False)
    found = study.find(made_up_runs(), tmp_path)
    verdicts = {claim.statement: claim.holds for claim in found.claims}
    assert list(verdicts.values()) == [True, True, None, None, None, False]
    assert list(found.table["objective"]) == [
        "VAE",
        "IWAE",
        "critic: path, evidence",
        "critic: literal, elbo",
    ]
    assert list(found.table["less the VAE's (± sd over seeds)"]) == [
        "",
        "-2.00 ± 0.00",
        "-0.50 ± 0.00",
        "4.00 ± 0.00",
    ]
    assert set(found.table["published"]) == {"none published"}
    assert all((tmp_path / picture.file).exists() for picture in found.pictures)


def test_a_literal_form_with_a_signal_is_found_out(tmp_path: Path) -> None:
    made_up_gradients(0.2).to_csv(tmp_path / f"gradients-{VAE}.csv", index=False)
    assert study.find(made_up_runs(), tmp_path).claims[0].holds is False


def test_with_nothing_measured_no_claim_is_judged(tmp_path: Path) -> None:
    found = study.find(pd.DataFrame(), tmp_path)
    assert found.results.empty
    assert found.table.empty
    assert {claim.holds for claim in found.claims} == {None}


def test_a_detached_part_passes_the_gradient_of_its_input_on_and_has_none_itself() -> None:
    model, x = problems.linear_gaussian(), problems.images(2)
    model.posterior.bias.requires_grad_(False)
    z = model.posterior(x).sample(1).requires_grad_()
    model.detached(lambda: model.posterior(x).log_prob(z).sum(), "posterior").backward()
    (expected,) = torch.autograd.grad(model.posterior(x).log_prob(z).sum(), z)
    torch.testing.assert_close(z.grad, expected)
    assert all(parameter.grad is None for parameter in model.parameters())
    live = {name: parameter.requires_grad for name, parameter in model.posterior.named_parameters()}
    assert live.pop("bias") is False
    assert all(live.values())
