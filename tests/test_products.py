"""The faster library's products are torch's to rounding, in every way they are computed, and a run keeps the choice."""

import copy
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from equality import assert_equal
from runs import at_step, interrupt, last_state, numbers, only_directory, start
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx
from torch.profiler import ProfilerActivity, profile

from evidence import execution, hmc, models, products
from evidence.compiling import fused_step
from evidence.models import LatentVariableModel
from evidence.networks import Critic

pytestmark = pytest.mark.skipif(not products.has_onednn(), reason="this torch has no oneDNN")
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs g++")

CPU = torch.device("cpu")
PIXELS, BATCH, SAMPLES = 12, 3, 4
Gradients = tuple[Tensor, ...]
Loss = Callable[[LatentVariableModel], Tensor]


@pytest.fixture
def by_onednn(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """oneDNN takes every product, however small, and a run that begins chooses it."""
    before = products._by_onednn_from
    monkeypatch.setattr(products, "PAYING", 1)
    monkeypatch.setattr(products, "faster", lambda: "oneDNN")
    products.use("oneDNN", 1)
    yield
    products._by_onednn_from = before


def calls(action: Callable[[], object]) -> int:
    """How many products oneDNN takes meanwhile."""
    with profile(activities=[ProfilerActivity.CPU]) as found:
        action()
    return sum(each.count for each in found.key_averages() if each.key == "mkldnn::_linear_pointwise")


def inputs(*shape: int, out: int, bias: bool) -> list[Tensor]:
    x, weight = torch.randn(*shape), 0.3 * torch.randn(out, shape[-1])
    return [each.requires_grad_() for each in ([x, weight, torch.randn(out)] if bias else [x, weight])]


@pytest.mark.usefixtures("by_onednn")
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("out", [5, 9])  # fewer than in, and more
@pytest.mark.parametrize("shape", [(7,), (6, 7), (3, 4, 7)])
def test_products_and_their_gradients_are_those_of_float64(
    shape: tuple[int, ...], out: int, bias: bool
) -> None:
    given = inputs(*shape, out=out, bias=bias)

    def found(linear: Callable[..., Tensor], given: list[Tensor]) -> list[Tensor]:
        value = linear(*given)
        first = torch.autograd.grad(value.sin().sum(), given, create_graph=True)
        second = torch.autograd.grad(sum(each.sin().sum() for each in first), given)
        return [value, *first, *second]

    exact = found(F.linear, [each.detach().double().requires_grad_() for each in given])
    for ours, expected in zip(found(products.linear, given), exact, strict=True):
        torch.testing.assert_close(ours.double(), expected, rtol=1e-5, atol=1e-5)
    assert calls(lambda: products.linear(*given)) == 1
    assert calls(lambda: torch.autograd.grad(products.linear(*given).sum(), given)) == 3
    first = torch.autograd.grad(products.linear(*given).sum(), given)
    assert [each.stride() for each in first] == [each.stride() for each in given]


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # by torch.func.jvp itself
@pytest.mark.usefixtures("by_onednn")
def test_what_is_not_for_onednn_is_torchs_own() -> None:
    x, weight, bias = (each.detach() for each in inputs(6, 7, out=5, bias=True))
    doubles = [each.double() for each in (x, weight, bias)]

    def forward_mode(linear: Callable[..., Tensor]) -> object:
        return torch.func.jvp(lambda x: linear(x, weight, bias), (x,), (x,))

    assert calls(lambda: products.linear(*doubles)) == 0
    assert calls(lambda: forward_mode(products.linear)) == 0
    assert_equal(list(forward_mode(products.linear)), list(forward_mode(F.linear)))  # type: ignore[call-overload]
    with torch.autocast("cpu", torch.bfloat16):
        assert products.linear(x, weight, bias).dtype == torch.bfloat16
    with pytest.raises(RuntimeError, match="dtype"):
        products.linear(x, weight.double(), bias)
    products.use("oneDNN", x.numel() * len(weight) + 1)
    assert calls(lambda: products.linear(x, weight, bias)) == 0  # too small
    products.use("oneDNN", x.numel() * len(weight))
    assert calls(lambda: products.linear(x, weight, bias)) == 1


@pytest.mark.usefixtures("by_onednn")
@pytest.mark.parametrize("shape", [(7,), (6, 7), (3, 4, 7)])
@pytest.mark.parametrize(
    "dims", [(0, 0, 0), (None, 0, 0), (0, None, None), (1, 2, 1), (None, None, 0), (0, 1)]
)
def test_under_vmap_products_are_torchs_own(shape: tuple[int, ...], dims: tuple[int | None, ...]) -> None:
    given = [each.detach() for each in inputs(*shape, out=5, bias=len(dims) == 3)]
    dims = tuple(dim if dim is None else min(dim, each.dim()) for dim, each in zip(dims, given, strict=True))
    stacked = [
        each if dim is None else torch.stack([each, each + 1], dim)
        for each, dim in zip(given, dims, strict=True)
    ]

    def gradient(linear: Callable[..., Tensor]) -> Callable[..., Gradients]:
        return torch.func.grad(lambda *given: linear(*given).sin().sum(), tuple(range(len(dims))))

    pairs = [
        (torch.vmap(products.linear, dims)(*stacked), torch.vmap(F.linear, dims)(*stacked)),
        (
            torch.vmap(gradient(products.linear), dims)(*stacked),
            torch.vmap(gradient(F.linear), dims)(*stacked),
        ),
    ]
    for ours, expected in pairs:
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)
    assert calls(lambda: torch.vmap(products.linear, dims)(*stacked)) == 0


def problem() -> tuple[LatentVariableModel, Loss]:
    """A model of two layers, and the sum of log w of fixed noise as a function of it, in its own precision."""
    model = models.hierarchical(PIXELS, [4, 3], [[8, 7], [6]], "tanh", torch.full((PIXELS,), 0.3))
    x, noise = torch.rand(BATCH, PIXELS).round(), torch.randn(SAMPLES, BATCH, 7)

    def loss(model: LatentVariableModel) -> Tensor:
        like = next(model.parameters())
        images = x.to(like)
        return model.log_weights_at(noise.to(like), model.posterior(images), images).logsumexp(0).sum()

    return model, loss


def plain(model: LatentVariableModel, loss: Loss) -> Gradients:
    return torch.autograd.grad(loss(model), list(model.parameters()))


def in_pieces(model: LatentVariableModel, loss: Loss) -> Gradients:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "ROWS_KEPT", BATCH)
        patch.setattr(models, "ROWS_PER_PIECE", 2 * BATCH)
        return plain(model, loss)


def compiled(model: LatentVariableModel, loss: Loss) -> Gradients:
    step = fused_step(plain)
    step(model, loss)  # which compiles it, and takes it too
    return step(model, loss)


def traced(model: LatentVariableModel, loss: Loss) -> Gradients:
    graph = make_fx(lambda: plain(model, loss))()
    assert any("evidence.linear" in str(node.target) for node in graph.graph.nodes)
    return graph()  # type: ignore[no-any-return]


def called(model: LatentVariableModel, loss: Loss) -> Gradients:
    def value(state: dict[str, Tensor]) -> Tensor:
        return torch.func.functional_call(model, state, (lambda: loss(model),))

    return tuple(torch.func.grad(value)(dict(model.named_parameters())).values())


def stacked(model: LatentVariableModel, loss: Loss) -> Gradients:
    def value(state: dict[str, Tensor]) -> Tensor:
        return torch.func.functional_call(model, state, (lambda: loss(model),))

    state = {name: torch.stack([each, each]).detach() for name, each in model.named_parameters()}
    rows = [each.requires_grad_() for each in state.values()]
    return tuple(each[1] for each in torch.autograd.grad(torch.vmap(value)(state).sum(), rows))


def compiled_stack(model: LatentVariableModel, loss: Loss) -> Gradients:
    return fused_step(stacked)(model, loss)


# Products of q(h_1 | x), of which no gradient with respect to x is needed, and of what follows for each sample.
FIRST, REST = 4, 9
ONCE = 3 * (FIRST + REST) - 1


@pytest.mark.usefixtures("by_onednn")
@pytest.mark.parametrize(
    ("way", "expected_calls"),
    [
        (plain, ONCE),
        (in_pieces, 3 * FIRST - 1 + 2 * 4 * REST),  # forward twice
        pytest.param(compiled, 2 * ONCE, marks=needs_compiler),
        (traced, 2 * ONCE),
        (called, ONCE),
        (stacked, 0),
        pytest.param(compiled_stack, 0, marks=needs_compiler),
    ],
)
def test_a_models_gradients_are_those_of_float64(
    way: Callable[[LatentVariableModel, Loss], Gradients], expected_calls: int
) -> None:
    model, loss = problem()
    exact = plain(copy.deepcopy(model).double(), loss)
    found: list[Gradients] = []
    assert calls(lambda: found.append(way(model, loss))) == expected_calls
    for ours, expected in zip(found[0], exact, strict=True):
        torch.testing.assert_close(ours.double(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("by_onednn")
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_a_semi_implicit_posterior_and_its_derivative_by_hand_are_those_of_float64(activation: str) -> None:
    model = models.semi_implicit(PIXELS, 3, 2, [8, 7], activation, 0.5, 1e-5, torch.full((PIXELS,), 0.3))
    x, eps = torch.rand(BATCH, PIXELS).round(), torch.randn(SAMPLES, BATCH, 2)
    cotangent = torch.randn(SAMPLES, BATCH, 3)

    def by_hand() -> tuple[Tensor, Tensor]:
        pullback = model.posterior(x).pullback
        assert pullback is not None
        mean, pull = pullback(eps)
        return mean, pull(cotangent)

    exact = copy.deepcopy(model).double().posterior(x.double())
    mean, pull = torch.func.vjp(exact.mean, eps.double())
    torch.testing.assert_close(by_hand()[0].double(), mean, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(by_hand()[1].double(), pull(cotangent.double())[0], rtol=1e-5, atol=1e-5)
    assert calls(by_hand) == 2 + 2 + 3  # of x, of eps, of two layers more, and back


@pytest.mark.usefixtures("by_onednn")
def test_hmc_differentiates_a_density_of_such_products() -> None:
    critic = Critic(PIXELS, [6], "tanh")
    x = torch.randn(BATCH, PIXELS)
    value, gradient = hmc.differentiated(critic)(x)
    exact = hmc.differentiated(copy.deepcopy(critic).double())(x.double())
    torch.testing.assert_close((value.double(), gradient.double()), exact, rtol=1e-5, atol=1e-6)
    assert calls(lambda: hmc.differentiated(critic)(x)) == 4


@pytest.mark.parametrize(("seconds", "expected"), [(0.0, "oneDNN"), (0.05, "torch")])
def test_the_faster_library_is_chosen_and_the_threads_stay(
    seconds: float, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(products, "onednn", lambda x, weight: time.sleep(seconds) or x.new_empty(1, 1))
    threads = torch.get_num_threads()
    assert products.faster.__wrapped__() == expected
    assert torch.get_num_threads() == threads
    monkeypatch.setattr(products, "has_onednn", lambda: False)
    assert products.faster.__wrapped__() == "torch"
    assert execution.settle(CPU, False, False, None, False)[0]["products"] == "torch"


@pytest.mark.usefixtures("by_onednn", "no_figures")
def test_a_run_that_was_broken_off_keeps_its_library_and_ends_with_the_same_bits(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert start() == 0
    directory = only_directory(root)
    expected, state = numbers(directory), last_state(directory)["model"]
    assert directory.read().execution["products"] == "oneDNN"
    shutil.rmtree(directory.folder)
    with at_step(60, interrupt):
        assert start() == 130
    monkeypatch.setattr(products, "faster", lambda: "torch")  # as a busy machine might find
    assert calls(lambda: start()) > 0
    directory = only_directory(root)
    assert (numbers(directory), directory.read().mixed) == (expected, [])
    assert_equal(last_state(directory)["model"], state)


@pytest.mark.usefixtures("by_onednn", "no_figures")
def test_a_run_whose_library_is_not_here_says_so_and_is_marked(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with at_step(60, interrupt):
        assert start() == 130
    monkeypatch.setattr(products, "has_onednn", lambda: False)
    capsys.readouterr()
    assert start() == 0
    assert "products oneDNN is now torch" in " ".join("".join(capsys.readouterr()).split())
    record = only_directory(root).read()
    assert record.mixed == ["from step 40: products oneDNN is now torch"]
    assert record.execution["products"] == "torch"
