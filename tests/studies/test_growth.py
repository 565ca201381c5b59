"""Samples that would not fit are taken in pieces: the same random numbers, the same gradient, bounded memory."""

from collections.abc import Callable
from pathlib import Path

import problems
import pytest
import torch
from torch import Tensor, nn

from evidence import models
from evidence.config import compose
from evidence.errors import UserError
from evidence.models import LatentVariableModel
from evidence.objectives import ELBO, IWAE, Objective

CONF = Path(__file__).resolve().parents[2] / "conf"
PIXELS, BATCH = 20, 3

OBJECTIVES: dict[str, Callable[[int], Objective]] = {
    "vae": lambda k: ELBO(k),
    "iwae, all": lambda k: IWAE(k),
    "iwae, top": lambda k: IWAE(k, 2),
    "iwae, sampled": lambda k: IWAE(k, 0),
    "vae, exact KL": lambda k: ELBO(k, "analytic"),  # for one layer
}
CASES = [
    (name, latent)
    for name in OBJECTIVES
    for latent in ([4], [4, 3])
    if "exact" not in name or len(latent) == 1
]


def hierarchical(latent: list[int]) -> LatentVariableModel:
    torch.manual_seed(3)
    hidden = [[12, 10], [8, 8]][: len(latent)]
    return models.hierarchical(PIXELS, latent, hidden, "tanh", torch.full((PIXELS,), 0.3))


def images(count: int) -> Tensor:
    return torch.rand(count, PIXELS, generator=torch.Generator().manual_seed(4)).round()


def limit_rows(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    monkeypatch.setattr(models, "ROWS_KEPT", rows)
    monkeypatch.setattr(models, "ROWS_PER_PIECE", rows)


def rows_at_a_time(module: nn.Module, found: list[int]) -> None:
    """Note how many rows each call of `module` gets."""
    module.register_forward_pre_hook(lambda _, arguments: found.append(arguments[0].shape[:-1].numel()))


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("rows", [1, 7, 30])  # less than the batch, two samples, ten; 11 samples are 33 rows
@pytest.mark.parametrize(("name", "latent"), CASES, ids=str)
def test_pieces_give_the_gradient_of_the_whole(
    name: str, latent: list[int], rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective, model, x = OBJECTIVES[name](11), hierarchical(latent), images(BATCH)

    def run() -> tuple[Tensor, dict[str, Tensor], Tensor]:
        torch.manual_seed(5)
        surrogate = objective(model, x).surrogate
        return surrogate.detach(), problems.gradients(surrogate.sum(), model), torch.get_rng_state()

    calls: list[int] = []
    rows_at_a_time(model.likelihood, calls)
    whole = run()
    assert max(calls) == 33
    calls.clear()
    limit_rows(monkeypatch, rows)
    pieces = run()
    assert max(calls) <= max(rows, BATCH)
    torch.testing.assert_close(pieces[0], whole[0], rtol=1e-12, atol=0.0)
    for parameter, expected in whole[1].items():
        torch.testing.assert_close(pieces[1][parameter], expected, rtol=1e-10, atol=1e-12, msg=parameter)
    assert torch.equal(pieces[2], whole[2])


def saved_bytes(objective: Objective, model: LatentVariableModel, x: Tensor) -> int:
    """What the graph of one step holds when the backward pass begins, each tensor's memory counted once."""
    locked: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        locked[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        surrogate = objective(model, x).surrogate
    assert surrogate.requires_grad
    return sum(locked.values())


@pytest.mark.parametrize("name", ["vae", "iwae, all"])
def test_a_graph_in_pieces_holds_no_units(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sample of an image adds its noise, its log w and the weight made of it; whole, all of its units."""
    latent = 4
    model, x = hierarchical([latent]), images(BATCH)
    small, large = OBJECTIVES[name](100), OBJECTIVES[name](1100)
    added = 4 * BATCH * 1000  # bytes of a number for each sample that the large one adds
    whole = saved_bytes(large, model, x) - saved_bytes(small, model, x)
    assert whole > added * (2 * PIXELS)  # the logits, and the hidden units
    limit_rows(monkeypatch, 30)
    assert saved_bytes(large, model, x) - saved_bytes(small, model, x) <= added * (latent + 2)


def test_as_many_rows_as_fit_are_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    """The papers' k = 50 at batch 20 goes through the layers at once, and its graph is kept."""
    assert models.ROWS_PER_PIECE >= 50 * 20
    monkeypatch.setattr(models, "checkpoint", None)  # not to be called
    limit_rows(monkeypatch, 50 * BATCH)
    IWAE(50)(hierarchical([4]), images(BATCH)).surrogate.sum().backward()


@pytest.mark.parametrize(
    ("argv", "is_refused"),
    [
        (["objective=iwae", "k=5000"], False),
        (["objective=iwae", "k=1000000"], False),  # hours for a step, but no more memory than its noise
        (["objective=vae", "k=1000000", "trainer.batch_size=100"], False),
        (["objective=iwae", "k=1000000", "trainer.batch_size=1000"], True),  # 200 GB of noise
        (["objective=critic", "k=1000000"], True),  # all of its samples at once
        (["objective=uivi", "k=1000000"], True),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_sizes_know_what_goes_in_pieces(argv: list[str], is_refused: bool) -> None:
    arguments, _ = compose.read_arguments(argv)

    def settings() -> None:
        compose.settings(compose.compose(CONF, arguments))

    if is_refused:
        with pytest.raises(UserError, match="numbers in a step"):
            settings()
    else:
        settings()
