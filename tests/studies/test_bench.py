"""`make bench` compares like with like: the same work for everybody, floors that count it, ratios within rounds."""

import time

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from evidence.distributions import DiagonalNormal
from evidence.models import LatentVariableModel
from evidence.objectives import IWAE
from experiments.speed import bench, floor, growth, machine, records, steps, turns
from experiments.speed.setting import (
    ADAM_EPS,
    BATCH,
    LATENT,
    LEARNING_RATE,
    NUM_EXACT,
    PIXELS,
)
from experiments.speed.workers import building, plain, products

K = 6
PARTS = ("weight", "bias")


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (120, PIXELS), dtype=np.uint8)


@pytest.fixture
def model(images: np.ndarray) -> LatentVariableModel:
    return building.one_layer(images)


@pytest.fixture
def noise(monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """What the model draws, known beforehand."""
    drawn = torch.randn(K, BATCH, LATENT)
    monkeypatch.setattr(DiagonalNormal, "noise", lambda self, num_samples: drawn)
    return drawn


def loss_and_gradients(model: LatentVariableModel, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Ours: what one training step minimises, and its gradient with respect to each weight and bias."""
    loss = -IWAE(K)(model, x).surrogate.sum()
    loss.backward()
    return loss.detach(), {name: parameter.grad for name, parameter in model.named_parameters()}


# Our names for the layers, and the peers'.
LAYERS = {
    "posterior.trunk.0": ("trunk.0", "encoder_1"),
    "posterior.trunk.2": ("trunk.2", "encoder_2"),
    "posterior.mean": ("mean", "mean"),
    "posterior.log_scale": ("log_scale", "log_scale"),
    "likelihood.logits.0.0": ("decoder.0", "decoder_1"),
    "likelihood.logits.0.2": ("decoder.2", "decoder_2"),
    "likelihood.logits.1": ("decoder.4", "decoder_3"),
}


def test_plain_pytorch_does_our_work(model, noise):
    x = torch.rand(BATCH, PIXELS).round()
    theirs = plain.Autoencoder()
    state = model.state_dict()
    theirs.load_state_dict(
        {f"{name}.{part}": state[f"{ours}.{part}"] for ours, (name, _) in LAYERS.items() for part in PARTS}
    )
    loss, gradients = loss_and_gradients(model, x)
    their_loss = theirs.loss(x, noise)
    their_loss.backward()
    torch.testing.assert_close(their_loss.detach(), loss)
    for ours, (name, _) in LAYERS.items():
        torch.testing.assert_close(
            theirs.get_parameter(f"{name}.weight").grad, gradients[f"{ours}.weight"], rtol=1e-4, atol=1e-3
        )


def test_jax_does_our_work(model, noise):
    jax = pytest.importorskip("jax", reason="jax is not installed: pip install -e '.[bench]'")
    from experiments.speed.workers import jax_scan

    x = torch.rand(BATCH, PIXELS).round()
    state = model.state_dict()
    parameters = {
        name: {"weight": state[f"{ours}.weight"].T.numpy(), "bias": state[f"{ours}.bias"].numpy()}
        for ours, (_, name) in LAYERS.items()
    }
    loss, gradients = loss_and_gradients(model, x)
    their_loss, theirs = jax.jit(jax.value_and_grad(jax_scan.loss))(parameters, x.numpy(), noise.numpy())
    torch.testing.assert_close(torch.tensor(float(their_loss)), loss)
    for ours, (_, name) in LAYERS.items():
        their_gradient = torch.from_numpy(np.array(theirs[name]["weight"]).T)
        torch.testing.assert_close(their_gradient, gradients[f"{ours}.weight"], rtol=1e-4, atol=1e-3)


def test_jax_adam_is_torch_adam():
    jax = pytest.importorskip("jax", reason="jax is not installed: pip install -e '.[bench]'")
    from experiments.speed.workers import jax_scan

    ours = torch.nn.Parameter(torch.randn(5))
    optimizer = torch.optim.Adam([ours], lr=LEARNING_RATE, eps=ADAM_EPS)
    theirs = jax.numpy.asarray(ours.detach().numpy().copy())
    state = (jax.numpy.zeros(5), jax.numpy.zeros(5), jax.numpy.array(0.0))
    for _ in range(3):
        ours.grad = torch.randn(5)
        optimizer.step()
        theirs, state = jax_scan.adam(theirs, ours.grad.numpy(), state)
    torch.testing.assert_close(torch.from_numpy(np.array(theirs)), ours.detach())


@pytest.mark.parametrize("num_exact", [None, NUM_EXACT])
def test_the_floor_counts_the_matrix_products_of_a_step(model, num_exact):
    x = torch.rand(BATCH, PIXELS).round()
    with FlopCounterMode(display=False) as counter:
        (-IWAE(50, num_exact)(model, x).surrogate.sum()).backward()
    products = sum(
        count
        for op, count in counter.get_flop_counts()["Global"].items()
        if str(op) in ("aten.mm", "aten.addmm")
    )
    assert products == floor.step(50, BATCH, num_exact)


def test_ratios_are_taken_within_a_round():
    """The machine is ten times slower in the second round, and then in the third for one of the two alone."""
    assert turns.ratio([2.0, 20.0, 2.0], [1.0, 10.0, 100.0]) == 2.0
    assert turns.spread([3.0, 1.0, 2.0]) == turns.Spread(2.0, 1.0, 3.0)


def made_up(seconds: float) -> list[turns.Reply]:
    """Three rounds of a machine that slows down."""
    return [turns.Reply(seconds * factor, 100.0) for factor in (1.0, 2.0, 4.0)]


def made_up_rows() -> list[records.Row]:
    """Of everybody, the ratios known: ours 2 ms, JAX 3, pythae 12, plain 6; a product takes 0.1."""
    names = {c.name: 0.002 for c in steps.CONTESTANTS} | {steps.JAX: 0.003, steps.PYTHAE: 0.012}
    names |= {steps.PLAIN: 0.006, steps.RATE: 0.0001}
    replies = {name: made_up(seconds) for name, seconds in names.items()}
    return steps.compared(steps.CONTESTANTS, replies, 50, "cpu")


def test_the_table_divides_the_right_way():
    row = next(row for row in made_up_rows() if row.contestant == "evidence, compiled")
    assert (row.median, row.lowest, row.highest, row.unit) == (4.0, 2.0, 8.0, "ms")
    assert (row.jax_over_it, row.pythae_over_it, row.plain_over_it) == pytest.approx((1.5, 6.0, 3.0))
    products = floor.step(50, BATCH) / floor.product(*floor.SHAPE)
    assert row.over_floor == pytest.approx(2.0 / (0.1 * products))


def test_peers_that_are_not_there_leave_no_ratio():
    ours = steps.CONTESTANTS[0]
    replies = {ours.name: made_up(0.002), steps.RATE: made_up(0.0001)}
    row, rate = steps.compared([ours], replies, 1, "cpu")
    assert (row.jax_over_it, row.pythae_over_it, row.plain_over_it) == (None, None, None)
    assert "JAX" not in records.table([row, rate])


def made_up_points() -> list[growth.Measured]:
    """Of every sweep."""
    return [
        growth.Measured(sweep, value, backward, "cpu", float(value), 0.9 * value, 1.2 * value, 300.0)
        for sweep, values in growth.SWEEPS.items()
        for backward in ("all", "top")
        for value in values
    ]


def test_everything_is_written(tmp_path):
    bench.write(made_up_rows(), made_up_points(), "cpu", ["A note."], tmp_path)
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [
        ".csv",
        ".csv",
        ".md",
        ".pdf",
        ".pdf",
        ".png",
        ".png",
    ]
    report = next(tmp_path.glob("*.md")).read_text()
    assert "| evidence, compiled | 4 (2 to 8) |" in report
    lines = next(tmp_path.glob("results-*.csv")).read_text().splitlines()
    assert len(lines) == 1 + len(made_up_rows())


def test_processors_of_one_name_write_files_of_their_own(monkeypatch, tmp_path):
    known = {"cpu family": "25", "model": "1", "model name": "AMD EPYC"}
    monkeypatch.setattr(machine, "processor", lambda: "AMD EPYC, 2 threads")
    monkeypatch.setattr(machine, "cpuinfo", lambda key: known.get(key, ""))
    for capability, model in (("AVX2", "1"), ("AVX512", "17"), ("AVX512", "97")):
        known["model"] = model
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda kind=capability: kind)
        bench.write(made_up_rows(), made_up_points(), "cpu", [], tmp_path)
    assert {path.stem for path in tmp_path.glob("results-*.csv")} == {
        "results-amd-epyc-family-25-model-1-avx2-2-threads",
        "results-amd-epyc-family-25-model-17-avx512-2-threads",
        "results-amd-epyc-family-25-model-97-avx512-2-threads",
    }


@pytest.mark.parametrize("slow", [0, 1])
def test_the_floor_is_of_the_faster_library(slow):
    calls = [lambda: None, lambda: None]
    calls[slow] = lambda: time.sleep(1e-3)
    assert products.fastest(calls, lambda: None) is calls[1 - slow]


def test_a_worker_answers_until_it_fails_and_then_says_why(images, tmp_path):
    np.save(tmp_path / "images.npy", images)
    with turns.workers(tmp_path / "images.npy", "cpu", {"plain": ("plain",)}) as team:
        reply = team["plain"].run("1", 2)
        with pytest.raises(turns.Failed, match="ValueError: invalid literal"):
            team["plain"].run("many", 2)
    assert reply.seconds > 0
    assert reply.peak_mib > 50
