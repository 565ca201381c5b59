"""Whole runs against plain numpy: L_S, the ELBO and the active units, from a checkpoint's weights and the test images.

A deliberate fault in the numpy code must be found, or the comparison would show nothing.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import independent
import numpy as np
import pytest
import runs
import torch
from independent import Array, Weights

from evidence import evaluation, models, project
from evidence.data import digits
from evidence.models import LatentVariableModel
from evidence.runs import figures

HIDDEN = {1: [[20, 15]], 2: [[20, 15], [12, 10]]}
LATENT = {1: [20], 2: [8, 8]}  # of one size, so that the layers can be mistaken for each other
SAMPLES, IMAGES = 300, 100
THRESHOLD = 0.01  # of an active unit (Burda et al. 2015, Section 5.1)
REPEATS, DRAWS = 30, 100  # of an estimate of the covariance; of the samples that each of its means takes


class Case(NamedTuple):
    """A finished run: its result.json, its last weights, the images scored [N, X] and their log-weights [S, N]."""

    layers: int
    metrics: dict[str, float]
    weights: Weights
    x: Array
    log_weights: Array

    def model(self) -> LatentVariableModel:
        """The package's own, in float64."""
        model = models.hierarchical(64, LATENT[self.layers], HIDDEN[self.layers], "tanh", torch.zeros(64))
        model.load_state_dict({name: torch.from_numpy(values) for name, values in self.weights.items()})
        return model.double()

    def own_log_weights(self, noise: Array) -> Array:
        """Numpy's, of noise [S, N, D]."""
        if self.layers == 1:
            return independent.log_weights_one_layer(self.weights, self.x, noise)
        return independent.log_weights_two_layers(self.weights, self.x, noise, LATENT[2][0])


@pytest.fixture(scope="module", params=[1, 2], ids=["one_layer", "two_layers"])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    layers = request.param
    root = tmp_path_factory.mktemp("independent")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(project, "_root", root)
        patch.setattr(figures, "draw", lambda *_: None)
        sizes = [f"model.latent={LATENT[layers]}", f"model.hidden={HIDDEN[layers]}"]
        training = ["k=5", "trainer.steps=1200", "trainer.learning_rate=0.003", "trainer.batch_size=50"]
        scoring = [f"eval.samples={SAMPLES}", f"eval.images={IMAGES}", "eval.keep_log_weights=true"]
        model = "model=one_layer" if layers == 1 else "model=two_layer"
        overrides = [text.replace(" ", "") for text in (model, *sizes, *training, *scoring, "tracking=none")]
        assert runs.start(*overrides) == 0
    directory = runs.only_directory(root)
    with np.load(directory.folder / "log_weights.npz") as kept:
        images, log_weights = kept["images"], kept["log_weights"].astype(np.float64)
    x = digits(64, "stochastic").test.numpy()[images].astype(np.float64)
    weights = independent.read_weights(max((directory.folder / "checkpoints").glob("*.pt")))
    return Case(layers, runs.numbers(directory), weights, x, log_weights)


def noise(case: Case, samples: int) -> Array:
    return np.random.default_rng(17).standard_normal((samples, IMAGES, sum(LATENT[case.layers])))


def assert_bounds_agree(case: Case) -> None:
    """Within five standard errors of the noise of the samples: each image is paired with itself."""
    own = case.own_log_weights(noise(case, SAMPLES))
    for name, mine, theirs in (
        ("nll", -independent.log_mean_exp(own), -independent.log_mean_exp(case.log_weights)),
        ("elbo", own.mean(0), case.log_weights.mean(0)),
    ):
        difference = mine - case.metrics[f"test/{name}"] - (theirs - theirs.mean())
        assert abs(difference.mean()) < 5 * difference.std(ddof=1) / np.sqrt(IMAGES), name


def assert_log_weights_are_equal(case: Case) -> None:
    """Of the same noise, in float64."""
    given, model = noise(case, 7), case.model()
    x = torch.from_numpy(case.x)
    with torch.no_grad():
        theirs = model.log_weights_at(torch.from_numpy(given), model.posterior(x), x).numpy()
    difference = np.abs(case.own_log_weights(given) - theirs).max()
    assert difference < 1e-9


def assert_first_layer_activities_are_equal(case: Case) -> None:
    """Its means are exact, so that the covariance is one number, and the count that of result.json."""
    name = "posterior" if case.layers == 1 else "posterior.layers.0"
    means = independent.moments(case.weights, name, case.x)[0]
    own = independent.covariance(means, means)
    theirs = package_activities(case)[: LATENT[case.layers][0]]
    assert np.abs(own - theirs).max() < 1e-9
    assert (own > THRESHOLD).sum() == case.metrics["test/active_units_1"]


def package_activities(case: Case) -> Array:
    with torch.no_grad():
        pair = evaluation.posterior_means(case.model(), torch.from_numpy(case.x), DRAWS)
    return evaluation.activity(*pair).numpy()


def test_the_bounds_are_those_of_independent_code(case: Case) -> None:
    assert -independent.log_mean_exp(case.log_weights).mean() == pytest.approx(case.metrics["test/nll"])
    assert case.log_weights.mean() == pytest.approx(case.metrics["test/elbo"])
    mean = case.x.mean(0).clip(1e-3, 1 - 1e-3)
    independent_pixels = -(case.x * np.log(mean) + (1 - case.x) * np.log(1 - mean)).sum(1).mean()
    assert case.metrics["test/nll"] < independent_pixels - 2  # nats: the model uses its latent units
    assert_bounds_agree(case)


def test_the_log_weights_of_given_noise_are_those_of_independent_code(case: Case) -> None:
    assert_log_weights_are_equal(case)


def test_the_active_units_of_the_first_layer_are_those_of_independent_code(case: Case) -> None:
    assert_first_layer_activities_are_equal(case)


def test_the_active_units_of_the_second_layer_are_those_of_independent_code(case: Case) -> None:
    """Two estimates of each mean from draws of their own, REPEATS times on either side."""
    if case.layers == 1:
        assert case.metrics["test/active_units"] == case.metrics["test/active_units_1"]
        return
    rng = np.random.default_rng(18)
    below = LATENT[2][0]

    def mean() -> Array:
        draws = rng.standard_normal((DRAWS, IMAGES, below))
        return independent.second_layer_means(case.weights, case.x, draws).mean(0)

    own = np.stack([independent.covariance(mean(), mean()) for _ in range(REPEATS)])
    theirs = np.stack([package_activities(case)[below:] for _ in range(REPEATS)])
    error = np.sqrt((own.var(0, ddof=1) + theirs.var(0, ddof=1)) / REPEATS)
    assert (np.abs(own.mean(0) - theirs.mean(0)) < 5 * error).all()
    margin = 5 * own.std(0, ddof=1)
    fewest, most = (int((own.mean(0) + shift > THRESHOLD).sum()) for shift in (-margin, margin))
    assert fewest <= case.metrics["test/active_units_2"] <= most <= fewest + 1
    total = case.metrics["test/active_units_1"] + case.metrics["test/active_units_2"]
    assert case.metrics["test/active_units"] == total


moments, gaussian, bernoulli = independent.moments, independent.gaussian, independent.bernoulli
one_layer, two_layers = independent.log_weights_one_layer, independent.log_weights_two_layers


def upside_down(weights: Weights, x: Array, noise: Array, below: int) -> Array:
    """The prior's layers in the wrong order: p(h1) p(h2 | h1)."""
    mean, deviation = moments(weights, "posterior.layers.0", x)
    h1 = mean + deviation * noise[..., :below]
    mean, deviation = moments(weights, "posterior.layers.1", h1)
    h2 = mean + deviation * noise[..., below:]

    def prior(top: Array, bottom: Array) -> Array:
        return independent.standard_gaussian(top) + gaussian(bottom, *moments(weights, "prior.layers.0", top))

    return two_layers(weights, x, noise, below) - prior(h2, h1) + prior(h1, h2)


FAULTS: dict[str, tuple[str, Callable[..., Any]]] = {
    "the prior's sign": ("standard_gaussian", lambda z: -gaussian(z, 0.0, 1.0)),
    "no prior": ("standard_gaussian", lambda z: 0.0),
    "twice the prior": ("standard_gaussian", lambda z: 2 * gaussian(z, 0.0, 1.0)),
    "variance for deviation": ("gaussian", lambda z, mean, scale: gaussian(z, mean, np.sqrt(scale))),
    "the sign of the logits": ("bernoulli", lambda x, logits: bernoulli(x, -logits)),
    "the ones alone": ("bernoulli", lambda x, logits: -(x * np.logaddexp(0, -logits)).sum(-1)),
    "the mean alone": ("log_weights_one_layer", lambda w, x, noise: one_layer(w, x, 0 * noise)),
    "the layers upside down": ("log_weights_two_layers", upside_down),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_the_log_weights_would_be_found(
    fault: str, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, wrong = FAULTS[fault]
    if name == f"log_weights_{'two_layers' if case.layers == 1 else 'one_layer'}":
        return  # it is not called
    monkeypatch.setattr(independent, name, wrong)
    for check in (assert_log_weights_are_equal, assert_bounds_agree):
        with pytest.raises(AssertionError):
            check(case)


def test_a_sum_of_the_weights_for_their_mean_would_be_found(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = independent.log_mean_exp
    monkeypatch.setattr(independent, "log_mean_exp", lambda values: real(values) + np.log(len(values)))
    with pytest.raises(AssertionError, match="nll"):
        assert_bounds_agree(case)


def test_a_second_moment_for_the_covariance_would_be_found(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(independent, "covariance", lambda a, b: (a * b).mean(0))
    with pytest.raises(AssertionError):
        assert_first_layer_activities_are_equal(case)
