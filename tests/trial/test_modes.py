"""Modules that compute otherwise in training are scored in eval mode and left as they were.

They are refused where a value of theirs is needed from two passes.
"""

import copy
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import problems
import pytest
import torch
from own_models import tried, with_layer
from runs import last_state, only_directory, start
from torch import Tensor, nn

from evidence.errors import UserError
from evidence.evaluation import (
    Evaluators,
    ImportanceSampling,
    SemiImplicitSampling,
    evaluate,
    posterior_means,
    score,
    score_semi_implicit,
)
from evidence.models import LatentVariableModel
from evidence.networks import Critic
from evidence.objectives import ELBO, IWAE, SIVI, UIVI, CriticWeighted, Objective
from evidence.objectives.reverse_conditional import HMCSampler
from evidence.parts import Parts
from evidence.runs import figures
from evidence.runs.build import evaluators
from evidence.training import Segment, parameter_groups, train
from evidence.trial import first_step

pytestmark = pytest.mark.usefixtures("float64")

EVALUATORS = Evaluators(ImportanceSampling(7, 50), SemiImplicitSampling(7, 5, 50))


def silent(_: int) -> None: ...


def scores(model: LatentVariableModel) -> dict[str, float]:
    torch.manual_seed(5)
    x = problems.images(30)
    return evaluate(model, x, EVALUATORS.suited_to(model, x), silent).metrics


SCORERS: dict[str, Callable[[LatentVariableModel, Tensor], Any]] = {
    "score": lambda model, x: score(model, x, 6, 40).weights.log_evidence,
    "posterior_means": lambda model, x: torch.stack(posterior_means(model, x, 4)),
}


@torch.no_grad()
@pytest.mark.parametrize("where", ["likelihood", "posterior"])
def test_dropout_plays_no_part_in_a_score(where: str) -> None:
    plain, model = problems.linear_gaussian(), with_layer(problems.linear_gaussian(), where, "dropout")
    assert scores(model) == scores(plain)
    for scorer in SCORERS.values():
        torch.manual_seed(5)
        found = scorer(model, problems.images(9))
        torch.manual_seed(5)
        torch.testing.assert_close(found, scorer(plain, problems.images(9)), rtol=0, atol=0)
    assert all(module.training for module in model.modules())


@torch.no_grad()
def test_dropout_plays_no_part_in_a_score_without_a_density() -> None:
    plain = problems.semi_implicit_gaussian()
    model = with_layer(problems.semi_implicit_gaussian(), "likelihood", "dropout")
    assert scores(model) == scores(plain)
    torch.manual_seed(5)
    found = score_semi_implicit(model, problems.images(4), 6, 5, 100)
    torch.manual_seed(5)
    torch.testing.assert_close(
        found, score_semi_implicit(plain, problems.images(4), 6, 5, 100), rtol=0, atol=0
    )


class Restless(nn.Module):
    """Changes all it has, in eval mode too: a parameter, buffers, one of them late, a tensor and a number."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.weight = nn.Parameter(torch.ones(2))
        self.register_buffer("kept", torch.zeros(2))
        self.register_buffer("passing", torch.zeros(2), persistent=False)
        self.seen, self.calls = torch.zeros(2), 0

    def forward(self, values: Tensor) -> object:
        with torch.no_grad():
            for tensor in self.weight, self.get_buffer("kept"), self.get_buffer("passing"), self.seen:
                tensor += 1
        self.calls += 1
        self.register_buffer("late", values.mean().detach())
        return self.inner(values)


def test_a_score_leaves_every_number_and_every_mode_as_it_was() -> None:
    model = with_layer(problems.linear_gaussian(), "posterior", "batch norm")
    model.posterior.then = Restless(model.posterior.then)
    model.likelihood.eval()
    modes = [module.training for module in model.modules()]
    state, restless = copy.deepcopy(model.state_dict()), model.posterior.then
    scores(model)
    for scorer in SCORERS.values():
        scorer(model, problems.images(9))
    assert model.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert (restless.calls, restless.seen.tolist()) == (0, [0.0, 0.0])
    assert restless.get_buffer("passing").tolist() == [0.0, 0.0]


def test_training_goes_on_as_if_it_had_not_been_scored() -> None:
    def trained(is_scored: bool) -> dict[str, Tensor]:
        model, objective = with_layer(problems.linear_gaussian(), "posterior", "batch norm"), ELBO(2)
        optimizer = torch.optim.Adam(parameter_groups(model, objective, 1.0), lr=0.01)  # type: ignore[arg-type]
        torch.manual_seed(2)
        batches = (problems.images(6) + step / 50 for step in range(8))
        for _ in train(model, objective, optimizer, batches, [Segment(8, 0.01)], "sum", 2):
            if is_scored:
                with torch.random.fork_rng():
                    scores(model)
        return model.state_dict()

    plain = trained(False)
    assert plain["posterior.layer.num_batches_tracked"] == 8
    for name, value in trained(True).items():
        torch.testing.assert_close(value, plain[name], rtol=0, atol=0)


def test_training_respects_a_mode_that_a_module_was_built_with() -> None:
    model, objective = with_layer(problems.linear_gaussian(), "posterior", "eval batch norm"), ELBO(1)
    optimizer = torch.optim.Adam(parameter_groups(model, objective, 1.0))  # type: ignore[arg-type]
    list(train(model, objective, optimizer, iter([problems.images(6)] * 3), [Segment(3, 0.01)], "sum", 3))
    assert model.posterior.layer.num_batches_tracked == 0


@pytest.mark.parametrize("layer", ["batch norm", "dropout", "always dropout"])
def test_choosing_the_evaluator_draws_nothing_and_takes_one_image(layer: str) -> None:
    model = with_layer(problems.linear_gaussian(), "posterior", layer)
    before = torch.get_rng_state()
    section: Any = SimpleNamespace(samples=3, rows=10, semi_implicit=SimpleNamespace(samples=1, noises=1))
    assert evaluators(section, torch.device("cpu")).suited_to(
        model, problems.images(5)
    ) == ImportanceSampling(3, 10)
    assert torch.equal(torch.get_rng_state(), before)


OWN_MODEL = """
from torch import nn
from evidence import models

def build(**section):
    model = models.hierarchical(**section)
    model.posterior = nn.Sequential(nn.BatchNorm1d(section["data_dim"]), model.posterior)
    model.likelihood = nn.Sequential(nn.Dropout(0.2), model.likelihood)
    return model
"""


def test_a_runs_checkpoints_hold_what_its_steps_alone_have_changed(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Validation three times, scoring and figures: batch norm counts the steps, and figures are drawn in eval mode."""
    torch.set_default_dtype(torch.float32)
    (root / "own_model.py").write_text(OWN_MODEL)
    monkeypatch.syspath_prepend(str(root))
    monkeypatch.delitem(sys.modules, "own_model", raising=False)
    real, modes = figures.draw, []

    def draw(directory: Any, same_path_as: Any, parts: Parts, *rest: Any) -> None:
        before = copy.deepcopy(parts.model.state_dict())
        parts.model.likelihood.register_forward_hook(lambda module, *_: modes.append(module.training))
        real(directory, same_path_as, parts, *rest)
        assert all(torch.equal(value, before[name]) for name, value in parts.model.state_dict().items())
        assert parts.model.likelihood.training

    monkeypatch.setattr(figures, "draw", draw)
    own = ["objective=vae", "model._target_=own_model.build", "model.name=own", "tracking=none"]
    assert start(*own, "trainer=smoke", "trainer.stages=null", "trainer.steps=60") == 0
    state = last_state(only_directory(root))["model"]
    assert state["posterior.0.num_batches_tracked"] == 60
    assert modes
    assert not any(modes)


def critic(encoder: str) -> CriticWeighted:
    return CriticWeighted(2, encoder, "evidence", 3.0, 0, Critic(problems.X_DIM, [5], "tanh"))  # type: ignore[arg-type]


ONCE: dict[str, Callable[[], Objective]] = {
    "vae": lambda: ELBO(2),
    "vae, analytic": lambda: ELBO(2, "analytic"),
    "iwae, all": lambda: IWAE(5),
    "iwae, all but none": lambda: IWAE(3, 2),
    "critic, literal": lambda: critic("literal"),
}
TWICE: dict[str, tuple[Callable[[], Objective], str]] = {
    "iwae, top": (lambda: IWAE(5, 2), r"choose objective\.num_exact=null$"),
    "iwae, sampled": (lambda: IWAE(5, 0), r"choose objective\.num_exact=null$"),
    "critic, elbo": (lambda: critic("elbo"), r"choose objective\.encoder=literal$"),
    "critic, path": (lambda: critic("path"), r"choose objective\.encoder=literal$"),
    "uivi": (lambda: UIVI(2, HMCSampler(2, 2, 3, 0.1, 0.9, 0.01)), "take it out of the model$"),
    "sivi": (lambda: SIVI(2, 4), "take it out of the model$"),
}
# By the layer, what the complaint begins with where a pass is taken twice.
IMPURE = {
    "dropout": r"model\.likelihood\.layer \(Dropout\) draws random numbers",
    "batch norm": r"model\.likelihood\.layer\.running_mean changes",
    "own generator": r"model\.likelihood\.layer \(OwnGenerator\) draws random numbers",
    "Python's random": r"model\.likelihood\.layer \(PythonRandom\) draws random numbers",
    "a count": r"model\.likelihood\.layer\.calls changes",
    "mean of rows": r"model\.likelihood\.layer \(MeanOfRows\) gives a sample a value that depends on",
    "hidden dropout": r"model\.likelihood\.layer\.layer \(Dropout\) draws",
    "hidden mean": r"model\.likelihood\.layer\.layer \(MeanOfRows\) gives a sample a value that depends on",
}


def problem(name: str) -> LatentVariableModel:
    return problems.semi_implicit_gaussian() if name in ("uivi", "sivi") else problems.linear_gaussian()


@pytest.mark.parametrize("layer", IMPURE)
@pytest.mark.parametrize("name", TWICE)
def test_a_model_that_is_no_function_of_its_noise_is_refused_where_it_is_passed_twice(
    name: str, layer: str
) -> None:
    make, way_out = TWICE[name]
    model = with_layer(problem(name), "likelihood", layer)
    with pytest.raises(UserError, match=f"^{IMPURE[layer]}.*{way_out}"):
        tried(model, make())


@pytest.mark.parametrize("layer", IMPURE)
@pytest.mark.parametrize("name", ONCE)
def test_the_same_model_is_trained_where_each_pass_is_taken_once(name: str, layer: str) -> None:
    tried(with_layer(problems.linear_gaussian(), "likelihood", layer), ONCE[name]())


@pytest.mark.parametrize("layer", ["layer norm", "eval batch norm", "set at first"])
@pytest.mark.parametrize("where", ["likelihood", "posterior"])
@pytest.mark.parametrize("name", TWICE)
def test_a_function_of_the_noise_is_taken_by_all(name: str, where: str, layer: str) -> None:
    assert tried(with_layer(problem(name), where, layer), TWICE[name][0]()) == []


@pytest.mark.parametrize("layer", ["dropout", "batch norm", "own generator"])
def test_an_impure_posterior_is_refused_too(layer: str) -> None:
    for name in "iwae, top", "critic, path", "uivi", "sivi":
        model = with_layer(problem(name), "posterior", layer)
        with pytest.raises(UserError, match=r"^model\.posterior\.layer"):
            tried(model, TWICE[name][0]())


@pytest.mark.parametrize("name", ["vae", "vae, analytic", "iwae, all"])
def test_samples_in_pieces_are_passed_twice(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    objective = ONCE[name]()
    model = with_layer(problems.linear_gaussian(), "likelihood", "dropout")
    rows = objective.k * first_step.IMAGES
    monkeypatch.setattr("evidence.trial.first_step.ROWS_KEPT", rows)
    tried(model, objective)
    monkeypatch.setattr("evidence.trial.first_step.ROWS_KEPT", rows - 1)
    with pytest.raises(UserError, match=rf"the {rows} samples of a step .*k or trainer\.batch_size"):
        tried(model, objective)


def test_a_score_that_would_depend_on_eval_rows_is_refused() -> None:
    for layer in "batch norm, no statistics", "always dropout":
        for where in "likelihood", "posterior":
            for objective in ELBO(2), IWAE(3):
                model = with_layer(problems.linear_gaussian(), where, layer)
                with pytest.raises(UserError, match=rf"^model\.{where}\.layer .* in eval mode, .*eval\.rows"):
                    tried(model, objective)


def test_the_trial_finds_what_dropout_does_to_a_gradient_of_few_samples() -> None:
    """The reason: given the noise, the two passes are of two models, and the gradient is not the bound's."""
    model = with_layer(problems.linear_gaussian(), "likelihood", "dropout")
    x = problems.images(4)
    full = problems.gradient_draws(lambda: IWAE(6)(model, x), model, 3000)
    few = problems.gradient_draws(lambda: IWAE(6, 2)(model, x), model, 3000)
    name = "likelihood.then.weight"
    assert problems.deviation(few[name], full[name].mean(0)) > 20
