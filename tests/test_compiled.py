"""A compiled step computes what the same lines compute as they stand, and a compiled run can be continued."""

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest
import torch
from runs import at_step, interrupt, last_state, numbers, only_directory, start
from torch import Tensor

from evidence import compiling, execution, models, networks, training
from evidence.distributions import Bernoulli, SemiImplicit
from evidence.errors import UserError
from evidence.numerics import sum_softplus, tanh
from evidence.objectives import ELBO, IWAE, SIVI, UIVI, Objective, reverse_conditional
from evidence.objectives.reverse_conditional import HMCSampler, ImportanceSampler

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs g++")

Make = Callable[[], tuple[models.LatentVariableModel, Objective]]
PIXELS = 20


def hierarchical(latent: list[int], objective: Objective) -> tuple[models.LatentVariableModel, Objective]:
    hidden = [[12, 10], [8, 8]][: len(latent)]
    return models.hierarchical(PIXELS, latent, hidden, "tanh", torch.full((PIXELS,), 0.3)), objective


def semi_implicit(objective: Objective) -> tuple[models.LatentVariableModel, Objective]:
    mean_pixels = torch.full((PIXELS,), 0.3)
    return models.semi_implicit(PIXELS, 3, 3, [8, 8], "relu", 0.5, 1e-5, mean_pixels), objective


def after_steps(make: Make, differentiate: training.Differentiate) -> dict[str, Tensor]:
    """The last gradients and the parameters after 40 steps from one seed."""
    torch.manual_seed(0)
    model, objective = make()
    optimizer = torch.optim.Adam(training.parameter_groups(model, objective, 1.0), eps=1e-4)
    batches = (torch.rand(8, PIXELS).round() for _ in range(40))
    schedule = [training.Segment(40, 1e-3)]
    list(training.train(model, objective, optimizer, batches, schedule, "sum", 40, 0, differentiate))
    named = dict(model.named_parameters())
    return named | {f"gradient of {name}": value.grad for name, value in named.items()}  # type: ignore[dict-item]


def test_compiled_steps_end_where_the_same_steps_end_as_they_stand(float64: None) -> None:
    """Their gradients too, without a stream. Each objective's steps are in test_recorded.py."""
    plain, fused = (
        after_steps(lambda: semi_implicit(SIVI(1, 4)), differentiate)
        for differentiate in (training.gradients, compiling.compiled(training.gradients))
    )
    for name, expected in plain.items():
        torch.testing.assert_close(fused[name], expected, rtol=1e-9, atol=1e-10, msg=name)


class WithoutPullback(networks.SemiImplicitPosterior):
    """Whose chain differentiates by torch."""

    def forward(self, x: Tensor) -> SemiImplicit:
        return super().forward(x)._replace(pullback=None)


@pytest.mark.parametrize("posterior", [networks.SemiImplicitPosterior, WithoutPullback])
def test_a_chain_ends_the_same_where_its_iterations_are_compiled(posterior: type, float64: None) -> None:
    used: list[int] = []

    def made(is_compiled: bool) -> tuple[models.LatentVariableModel, Objective]:
        model, objective = semi_implicit(UIVI(2, HMCSampler(2, 3, 3, 0.3, 0.9, 0.01)))
        model.posterior.__class__ = posterior
        assert objective.compiled_part is not None
        objective.compiled_part.is_compiled = is_compiled
        return model, objective

    real = reverse_conditional._fused_iteration()

    def counted(*given: object) -> object:
        used.append(1)
        return real(*given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reverse_conditional, "_fused_iteration", lambda: counted)
        found = after_steps(lambda: made(True), training.gradients)
    assert len(used) == 40 * 5
    for name, expected in after_steps(lambda: made(False), training.gradients).items():
        torch.testing.assert_close(found[name], expected, rtol=1e-9, atol=1e-10, msg=name)


def test_a_step_that_torch_cannot_compile_is_refused_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples in pieces are an example."""
    monkeypatch.setattr(models, "ROWS_KEPT", 1)
    monkeypatch.setattr(models, "ROWS_PER_PIECE", 8)
    with pytest.raises(
        UserError, match=r"^torch cannot compile a step of this run \(.+\): choose compile=false$"
    ):
        after_steps(lambda: hierarchical([4], ELBO(3)), compiling.compiled(training.gradients))


def test_a_product_of_factors_gives_the_likelihood_and_its_gradient() -> None:
    logits = torch.tensor([[-200.0, -30.0, -1.0, 0.5, 0.0, 2.0, 40.0, 90.0, 3.0]], requires_grad=True)
    x = torch.tensor([[0.0, 1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0]])

    def log_prob(values: Tensor) -> Tensor:
        return Bernoulli(values).log_prob(x.to(values))

    fused = torch.compile(log_prob, fullgraph=True)(logits)
    (gradient,) = torch.autograd.grad(fused.sum(), logits)
    exact = log_prob(logits.double())
    torch.testing.assert_close(fused.double(), exact, rtol=1e-6, atol=0.0)
    torch.testing.assert_close(gradient, (x - torch.sigmoid(logits)).detach(), rtol=1e-6, atol=1e-7)
    assert sum_softplus(torch.full((784,), -100.0)) == 0.0


def test_a_rational_function_gives_tanh_and_its_gradient() -> None:
    x = torch.cat([torch.linspace(-12, 12, 4001), torch.tensor([0.0, 1e-30, -1e-6, math.inf, math.nan])])
    x.requires_grad_()

    def with_gradient(x: Tensor) -> tuple[Tensor, Tensor]:
        value = tanh(x)
        return value.detach(), torch.autograd.grad(value.sum(), x)[0]

    value, gradient = compiling.fused_step(with_gradient)(x)
    exact = x.detach().double().tanh()
    assert not torch.equal(value.nan_to_num(), x.tanh().nan_to_num())  # it is another function
    torch.testing.assert_close(value.double(), exact, rtol=5e-7, atol=0.0, equal_nan=True)
    torch.testing.assert_close(gradient.double(), 1 - exact.square(), rtol=0.0, atol=1e-6, equal_nan=True)
    assert value[0] == -1.0
    assert torch.equal(tanh(x).nan_to_num(), x.tanh().nan_to_num())
    rows = torch.stack([x, x.flip(0)]).detach()
    torch.testing.assert_close(compiling.fused_step(torch.vmap(tanh))(rows)[0], value, equal_nan=True)


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize(
    "words", [[], ["objective=uivi", "model=semi_implicit", "k=1"]], ids=["iwae", "uivi"]
)
def test_a_compiled_run_that_was_broken_off_ends_with_the_same_bits(root: Path, words: list[str]) -> None:
    assert start("compile=true", *words) == 0
    directory = only_directory(root)
    expected, state = numbers(directory), last_state(directory)
    assert directory.read().execution["compiled"] is True
    shutil.rmtree(directory.folder)
    with at_step(60, interrupt):
        assert start("compile=true", *words) == 130
    assert start(*words) == 0  # it goes on as it began, though so few steps would not be compiled
    assert numbers(only_directory(root)) == expected
    for name, value in state["model"].items():
        assert torch.equal(last_state(only_directory(root))["model"][name], value)


def test_steps_are_compiled_where_they_pay_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Own(IWAE):
        """A user's."""

    model, iwae = hierarchical([4], IWAE(5))
    cpu, enough = torch.device("cpu"), execution.PAYING_STEPS

    def wants(
        setting: bool | Literal["auto"],
        objective: Objective = iwae,
        steps: int = enough,
        rows: int = 1000,
    ) -> bool:
        return execution.wants_compiling(setting, [model, objective], execution.pays(steps, rows))

    assert wants("auto")
    assert not wants("auto", steps=enough - 1)
    assert not wants("auto", rows=execution.ROWS_KEPT + 1)
    assert not wants("auto", Own(5))
    assert not wants(False)
    assert wants(True, Own(5), 1)
    with pytest.raises(UserError, match="compile=true: UIVI cannot be compiled"):
        wants(True, UIVI(1, ImportanceSampler(5)))
    assert wants("auto", UIVI(1, HMCSampler(5, 5, 5, 0.05, 0.9, 0.01)))
    monkeypatch.setenv("PATH", "")
    assert not wants("auto")
    with pytest.raises(UserError, match=r"no C\+\+ compiler is here"):
        wants(True)
    kept = execution.settle(cpu, True, False, None, False)[0]
    assert execution.settle(cpu, True, False, kept, False)[1] == "compiled True is now False"


@pytest.mark.parametrize("told", [True, False])
def test_a_resumed_run_compiles_as_it_is_told_and_by_itself_as_before(told: bool) -> None:
    cpu = torch.device("cpu")
    kept = execution.settle(cpu, not told, False, None, False)[0]
    assert execution.settle(cpu, told, False, kept, False) == (kept, "")
    now, changes = execution.settle(cpu, told, False, kept, True)
    assert now == kept | {"compiled": told}
    assert changes == f"compiled {not told} is now {told}"
