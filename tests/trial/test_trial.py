"""The trial before training begins: it leaves no trace, takes all objectives, and finds what no checkpoint keeps."""

import copy
import random
import shutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import problems
import pytest
import torch
from own_models import tried, with_layer
from runs import at_step, begin, directories, interrupt, mlflow_runs, numbers, only_directory, said, start
from torch import Tensor, nn

from evidence import models
from evidence.errors import UserError
from evidence.evaluation import ImportanceSampling, SemiImplicitSampling
from evidence.models import LatentVariableModel
from evidence.networks import Critic
from evidence.objectives import ELBO, IWAE, SIVI, UIVI, CriticWeighted, Estimate, Objective
from evidence.objectives.reverse_conditional import HMCSampler
from evidence.trial import first_step

PIXELS = 20


def critic(encoder: str) -> CriticWeighted:
    return CriticWeighted(2, encoder, "evidence", 3.0, 4, Critic(PIXELS, [5], "tanh"))  # type: ignore[arg-type]


OBJECTIVES: dict[str, Callable[[], Objective]] = {
    "vae": lambda: ELBO(2),
    "vae, analytic": lambda: ELBO(2, "analytic"),
    "iwae, all": lambda: IWAE(5),
    "iwae, top": lambda: IWAE(50, 4),
    "iwae, sampled": lambda: IWAE(5, 0),
    "critic, literal": lambda: critic("literal"),
    "critic, elbo": lambda: critic("elbo"),
    "critic, path": lambda: critic("path"),
    "uivi": lambda: UIVI(2, HMCSampler(2, 2, 3, 0.1, 0.9, 0.01)),
    "sivi": lambda: SIVI(2, 4),
}


def model_of(kind: str) -> LatentVariableModel:
    mean = torch.full((PIXELS,), 0.3)
    if kind == "semi_implicit":
        return models.semi_implicit(PIXELS, 3, 2, [7, 7], "relu", 0.5, 1e-5, mean)
    if kind == "explicit":
        return models.explicit(PIXELS, 3, [7, 7], "relu", mean)
    return models.hierarchical(PIXELS, [5, 3][: int(kind)], [[12], [8]][: int(kind)], "tanh", mean)


CASES = [
    (name, kind)
    for name in OBJECTIVES
    for kind in ("1", "2", "explicit", "semi_implicit")
    if (name in ("uivi", "sivi")) == (kind == "semi_implicit") and (name, kind) != ("vae, analytic", "2")
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(("name", "kind"), CASES)
def test_it_takes_every_objective_and_changes_no_number(name: str, kind: str, dtype: torch.dtype) -> None:
    torch.set_default_dtype(dtype)
    try:
        model, objective = model_of(kind), OBJECTIVES[name]()
        modules = [*model.modules(), *objective.modules()]
        before = copy.deepcopy([vars(module) for module in modules])
        states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
        evaluator = (
            SemiImplicitSampling(50, 30, 200) if kind == "semi_implicit" else ImportanceSampling(50, 200)
        )
        x, images = (torch.rand(count, PIXELS).round() for count in (first_step.IMAGES, first_step.SCORED))
        torch.set_rng_state(states[0])
        assert first_step.check(model, objective, x, images.byte(), evaluator, 20) == ([], [])
        assert torch.equal(torch.get_rng_state(), states[0])
        assert random.getstate() == states[1]
        assert np.array_equal(np.random.get_state()[1], states[2])
        for module, locked in zip(modules, before, strict=True):
            assert vars(module).keys() == locked.keys()
            for group in "_parameters", "_buffers":
                assert list(locked[group]) == list(vars(module)[group])
                assert all(
                    torch.equal(vars(module)[group][each], value) for each, value in locked[group].items()
                )
    finally:
        torch.set_default_dtype(torch.float32)


class Growing(Objective):
    """Weights the ELBO by the number of its steps, which is an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.steps, self.rate, self.is_first, self.size = 0, 1.0, True, 7
        self.cache: Tensor | None = None
        self.seen: list[int] = []
        self.inner = ELBO(1)

    def forward(self, model: LatentVariableModel, x: Tensor) -> Estimate:
        self.steps += 1
        self.rate *= 0.5
        self.is_first = False
        self.cache = x
        self.seen.append(len(x))
        self.late = self.steps
        return self.inner(model, x)


@pytest.mark.usefixtures("float64")
def test_it_names_numbers_and_generators_that_no_checkpoint_keeps() -> None:
    objective, model = Growing(), problems.linear_gaussian()
    names = {f"objective.{name}" for name in ("steps", "rate", "is_first", "late")}
    assert set(tried(model, objective)) == names
    assert (objective.steps, objective.rate, objective.is_first, objective.cache) == (0, 1.0, True, None)
    assert objective.seen == []
    assert not hasattr(objective, "late")
    assert tried(with_layer(model, "likelihood", "own generator"), ELBO(1)) == [
        "model.likelihood.layer.generator"
    ]
    model = with_layer(problems.linear_gaussian(), "posterior", "Python's random")
    assert tried(model, ELBO(1)) == ["random"]
    a_buffer = with_layer(problems.linear_gaussian(), "posterior", "a count")
    assert tried(a_buffer, ELBO(1)) == ["model.posterior.layer.calls"]  # it is not persistent
    a_buffer.posterior.layer._non_persistent_buffers_set.clear()
    assert tried(a_buffer, ELBO(1)) == []


@pytest.mark.usefixtures("float64")
def test_what_cannot_be_copied_is_tried_itself_and_put_back() -> None:
    model, objective = with_layer(problems.linear_gaussian(), "likelihood", "batch norm"), Growing()
    model.lock = threading.Lock()
    state = copy.deepcopy(model.state_dict())
    assert "objective.steps" in tried(model, objective)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert objective.steps == 0
    assert [module.training for module in model.modules()] == [True] * len(list(model.modules()))


class Captured(nn.Module):
    """A function of its own that a copy shares with the original."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.norm = nn.BatchNorm1d(problems.X_DIM)
        self.function = lambda x: self.inner(self.norm(x))

    def forward(self, x: Tensor) -> object:
        return self.function(x)


@pytest.mark.usefixtures("float64")
def test_a_function_that_the_copy_shares_leaves_no_trace_either() -> None:
    model = problems.linear_gaussian()
    model.posterior, model.likelihood = Captured(model.posterior), model.likelihood.requires_grad_(False)
    state = copy.deepcopy(model.state_dict())
    assert tried(model, ELBO(2)) == []
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


@pytest.mark.usefixtures("float64")
def test_a_lazy_parameter_is_refused_by_name() -> None:
    model = problems.linear_gaussian()
    model.posterior = nn.Sequential(nn.LazyLinear(4), model.posterior)
    with pytest.raises(UserError, match=r"^model\.posterior\.0\.weight has no shape before its first use"):
        tried(model, ELBO(1))


@pytest.mark.usefixtures("float64")
def test_a_users_error_passes_through() -> None:
    class Failing(ELBO):
        def forward(self, model: LatentVariableModel, x: Tensor) -> Estimate:
            raise ZeroDivisionError("of the user's")

    with pytest.raises(ZeroDivisionError, match="of the user's"):
        tried(problems.linear_gaussian(), Failing(1))


OWN = """
from evidence.objectives import ELBO

class Own(ELBO):
    def __init__(self, k, kl):
        super().__init__(k, kl)
        self.steps = 0

    def forward(self, model, x):
        self.steps += 1
        return RETURNED
"""
COUNTED = "super().forward(model, x)._replace(surrogate=super().forward(model, x).surrogate * (1 + self.steps / 20))"
OVERRIDES = ["objective=vae", "objective._target_=own_trial.Own", "objective.name=own"]


@pytest.fixture
def write(root: Path, monkeypatch: pytest.MonkeyPatch, no_figures: None) -> Callable[[str], None]:
    """Writes the user's module, with what its objective returns."""
    monkeypatch.syspath_prepend(str(root))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.delitem(sys.modules, "own_trial", raising=False)
    return lambda returned: (root / "own_trial.py").write_text(OWN.replace("RETURNED", returned))  # type: ignore[return-value]


def test_a_run_says_in_one_line_what_an_objective_must_return(
    root: Path, write: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    write("super().forward(model, x).surrogate")
    assert start(*OVERRIDES, "tracking=none") == 1
    (line,) = said(capsys)
    assert "own_trial.Own.forward returned a tensor [20]" in line
    assert line.endswith("it must return Estimate(surrogate [B], metrics)")
    assert list(only_directory(root).checkpoints()) == []


def test_a_run_that_begins_a_number_anew_is_marked(
    root: Path, write: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    write(COUNTED)
    begin(*OVERRIDES)
    assert any("no checkpoint keeps objective.steps" in line for line in said(capsys))
    assert only_directory(root).read().mixed == []
    with at_step(60, interrupt):
        assert start(*OVERRIDES) == 130
    assert start(*OVERRIDES) == 0
    directory = only_directory(root)
    assert directory.read().mixed == ["from step 40: objective.steps began anew"]
    (run,) = mlflow_runs()
    assert run.data.tags["mixed"] == "from step 40: objective.steps began anew"
    broken_off = numbers(directory)
    assert start(*OVERRIDES, "paths.outputs=whole", "tracking=none") == 0
    (whole,) = (path for path in root.glob("whole/*/result.json"))
    assert '"mixed": []' in whole.read_text()
    assert f'"test/nll": {broken_off["test/nll"]}' not in whole.read_text()
    assert len(directories(root)) == 1


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs g++")
def test_a_number_that_changes_with_each_step_is_not_compiled(
    root: Path, write: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    write(COUNTED)
    assert start(*OVERRIDES, "tracking=none", "compile=true") == 1
    (line,) = said(capsys)
    assert "compile=true: objective.steps changes in a step, and each value would be compiled anew" in line
