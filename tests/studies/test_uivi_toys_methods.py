"""The methods of UIVI's toys against exact answers, and how their fits are compared."""

from pathlib import Path

import pandas as pd
import problems
import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor
from torch.distributions import MultivariateNormal, kl_divergence

from evidence import project
from evidence.models import LatentVariableModel
from experiments.uivi_toys import fits
from experiments.uivi_toys.claims import judged
from experiments.uivi_toys.fits import fit
from experiments.uivi_toys.methods import METHODS, NUM_INNER
from experiments.uivi_toys.summary import Estimate, alike, by_fit, over_seeds
from experiments.uivi_toys.targets import NoLikelihood, Target, targets


def test_numbers_of_samples_are_the_defaults() -> None:
    folder = project.root() / "conf" / "objective"
    importance, learned = (
        OmegaConf.load(folder / "reverse_conditional" / f"{name}.yaml") for name in ("importance", "learned")
    )
    assert importance.num_samples == learned.num_samples == NUM_INNER
    assert OmegaConf.load(folder / "sivi.yaml").objective.num_noises == NUM_INNER
    sampler = METHODS["learned"].objective().reverse_conditional
    assert sampler.relative_rate == learned.rate
    widths = [layer.out_features for layer in sampler.modules() if isinstance(layer, torch.nn.Linear)]
    assert widths == [*learned.proposal.hidden, 3, 3]


TARGET = MultivariateNormal(torch.zeros(2), torch.tensor([[2.0, 1.2], [1.2, 1.5]]))


def linear(density: object = None) -> LatentVariableModel:
    """q is N(0, M M' + sigma^2 I), so its KL is known, and zero where q is the target."""
    posterior = problems.LinearSemiImplicitPosterior()
    posterior.weight = torch.nn.Parameter(torch.empty(2, 0))
    return LatentVariableModel(Target(TARGET), NoLikelihood(), posterior, [2])


def exact_divergence(model: LatentVariableModel) -> Tensor:
    return kl_divergence(MultivariateNormal(torch.zeros(2), model.posterior.covariance()), TARGET)


@pytest.mark.parametrize("method", ["importance", "learned", "sivi"])  # the next test is of HMC
def test_a_method_brings_a_semi_implicit_gaussian_to_its_target(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fits, "toy", linear)
    monkeypatch.setattr(fits, "_row", lambda model, report, seed: {})
    torch.manual_seed(0)
    assert exact_divergence(linear()) > 0.2
    assert exact_divergence(fit("banana", method, 0, 1000, tmp_path / "state.pt").model) < 0.02


def test_ten_iterations_of_hmc_are_biased_by_the_noise_that_made_z_and_fifty_are_not() -> None:
    """By sigma, against the exact gradient. With that noise for eps', q(z | eps) would stand for q(z)."""
    torch.manual_seed(0)
    model = linear()
    sigma, x = model.posterior.log_scale, torch.empty(2000, 0)
    (exact,) = torch.autograd.grad(-exact_divergence(model), sigma)

    def deviation(burn_in: int) -> Tensor:
        """In standard errors."""
        objective = METHODS["hmc"].objective()
        objective.reverse_conditional.burn_in = burn_in
        drawn = [torch.autograd.grad(objective(model, x).surrogate.mean(), sigma)[0] for _ in range(10)]
        mean, se = torch.stack(drawn).mean(0), torch.stack(drawn).std(0) / 10**0.5
        return (mean - exact) / se

    assert deviation(5).max() > 8
    assert deviation(45).abs().max() < 5


def made_up(kls: dict[str, tuple[float, ...]], milliseconds: dict[str, float]) -> pd.DataFrame:
    """Reports of fits on all targets, one seed for each of a method's KLs, with no spread within a fit."""
    return pd.DataFrame(
        {"target": name, "method": method, "seed": seed, "step": step, "kl": kl, "kl_se": 0.001}
        | {"seconds_per_step": milliseconds[method] / 1000, "acceptance": 0.9, "source": "same"}
        for name in targets()
        for method, by_seed in kls.items()
        for seed, kl in enumerate(by_seed)
        for step in (250, 500, 750, 900, 1000)
    )


@pytest.mark.parametrize(
    ("importance", "milliseconds", "holds"),
    [
        ((0.10, 0.12, 0.14), 1.0, True),  # 0.02 above HMC's, with an error of 0.016
        ((0.13, 0.15, 0.17), 1.0, False),
        ((0.10, 0.12, 0.14), 9.0, False),  # dearer than HMC
        ((0.1, 0.1, 9000.0), 1.0, False),  # diverged, with an error as large as the mean
    ],
)
def test_a_sampler_reaches_hmc_within_two_errors_and_in_less_time(
    importance: tuple[float, ...], milliseconds: float, holds: bool
) -> None:
    kls = {"hmc": (0.08, 0.10, 0.12), "importance": importance, "learned": (0.08, 0.10, 0.12)}
    rows, _ = alike(made_up(kls, {"hmc": 8.0, "importance": milliseconds, "learned": 2.0}))
    gaussian = dict.fromkeys(targets(), 0.5)
    claims = judged(rows, by_fit(rows), gaussian)
    assert [claim.holds for claim in claims] == [True, True, holds, True]
    assert "3 seeds" in claims[2].evidence
    without = rows[(rows["method"] != "learned") | (rows["target"] != "banana")]
    assert judged(without, by_fit(without), gaussian)[3].holds is None


def test_the_error_of_several_seeds_is_that_of_their_mean_and_of_one_seed_its_own() -> None:
    ends = by_fit(made_up({"hmc": (0.1, 0.2, 0.3)}, {"hmc": 8.0}))
    ends = ends[ends["target"] == "banana"]
    assert over_seeds(ends, "kl") == pytest.approx(Estimate(0.2, 0.1 / 3**0.5))
    assert over_seeds(ends[ends["seed"] == 1], "kl") == Estimate(0.2, 0.001)
