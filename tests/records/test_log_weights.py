"""The file of log-weights gives the figures of result.json again, and keeping it changes none of them."""

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import numpy as np
import pytest
import torch
from runs import directories, numbers, only_directory, said, settings, start
from scipy.special import logsumexp

from evidence import training
from evidence.errors import UserError
from evidence.records import log_weights
from evidence.records.directory import RunDirectory
from evidence.runs import fit

pytestmark = pytest.mark.usefixtures("root", "no_figures")

KEEP = ["tracking=none", "eval.keep_log_weights=true"]
# Batches of 100, 100 and 50 images, and chunks of 3 or 6 samples.
SCORED = ["eval.images=250", "eval.samples=40", "eval.rows=300"]
SMALL_LAYERS = {
    "one_layer": ["model.latent=[5]", "model.hidden=[[20]]"],
    "two_layer": ["model.latent=[6,3]", "model.hidden=[[20],[10]]"],
}
SEMI_IMPLICIT = [
    "objective=sivi",
    "trainer=smoke",
    "trainer.steps=10",
    "eval.semi_implicit.samples=30",
    "eval.semi_implicit.noises=20",
]


def kept(directory: RunDirectory) -> dict[str, np.ndarray]:
    """The arrays of the file, by name."""
    with np.load(directory.folder / "log_weights.npz") as archive:
        return dict(archive)


def log_mean_exp(log_w: np.ndarray) -> np.ndarray:
    """Over the samples, [S, N] -> [N]."""
    return logsumexp(log_w.astype(np.float64), 0) - np.log(len(log_w))


@pytest.mark.parametrize("model", SMALL_LAYERS)
def test_a_posterior_with_a_density_keeps_what_its_metrics_are_made_of(model: str, root: Path) -> None:
    assert start(*KEEP, *SCORED, f"model={model}", *SMALL_LAYERS[model]) == 0
    arrays, metrics = kept(only_directory(root)), numbers(only_directory(root))
    assert sorted(arrays) == ["images", "log_weights"]
    log_w = arrays["log_weights"]
    assert (log_w.shape, log_w.dtype) == ((40, 250), np.float32)
    bound = log_mean_exp(log_w)
    weights = np.exp(log_w.astype(np.float64) - log_w.max(0))
    found = {
        "nll": -bound.mean(),
        "nll_se": bound.std(ddof=1) / np.sqrt(250),
        "elbo": log_w.astype(np.float64).mean(),
        "effective_sample_size": (weights.sum(0) ** 2 / (weights**2).sum(0)).mean(),
    }
    for name, value in found.items():
        assert value == pytest.approx(metrics[f"test/{name}"], rel=1e-9), name


def test_a_semi_implicit_posterior_keeps_the_weights_of_its_three_estimates(root: Path) -> None:
    assert start(*KEEP, *SCORED, *SEMI_IMPLICIT) == 0
    arrays, metrics = kept(only_directory(root)), numbers(only_directory(root))
    assert sorted(arrays) == ["fresh", "gaussian", "images", "mixture"]
    for name in ("mixture", "fresh", "gaussian"):
        assert (arrays[name].shape, arrays[name].dtype) == ((30, 250), np.float32)
        assert -log_mean_exp(arrays[name]).mean() == pytest.approx(metrics[f"test/nll_{name}"], abs=1e-5)
    assert metrics["test/nll"] == metrics["test/nll_mixture"]
    error = log_mean_exp(arrays["mixture"]).std(ddof=1) / np.sqrt(250)
    assert error == pytest.approx(metrics["test/nll_se"], rel=1e-6)


@pytest.mark.parametrize(("images", "rows"), [("7", [0, 42, 85, 128, 171, 214, 257]), ("null", range(300))])
def test_the_file_says_which_test_images_it_is_of(images: str, rows: list[int], root: Path) -> None:
    assert start(*KEEP, f"eval.images={images}") == 0
    arrays = kept(only_directory(root))
    assert arrays["images"].tolist() == list(rows)
    assert arrays["log_weights"].shape[1] == len(rows)


@pytest.mark.parametrize("model", [[], SEMI_IMPLICIT], ids=["one_layer", "semi_implicit"])
def test_keeping_log_weights_changes_no_number_and_without_it_there_is_no_file(
    model: list[str], root: Path
) -> None:
    assert start(*SCORED, *model, "tracking=none") == 0
    assert not list(root.rglob("*.npz"))
    assert start(*SCORED, *model, *KEEP) == 0
    first, second = directories(root)
    assert numbers(first) == numbers(second)
    assert len(list(root.rglob("*.npz"))) == 1


def test_a_finished_run_typed_again_with_the_key_is_only_evaluated(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert start("tracking=none") == 0
    real, steps = training.train, []
    monkeypatch.setattr(training, "train", lambda *args: (steps.append(r.step) or r for r in real(*args)))
    assert start(*KEEP) == 0
    assert steps == []
    assert len(list(root.rglob("log_weights.npz"))) == 1


def interrupt_at_the_second_batch(patch: pytest.MonkeyPatch) -> None:
    heard: list[int] = []

    def heartbeat(_: object) -> None:
        heard.append(1)
        if len(heard) == 2:
            raise KeyboardInterrupt

    def score(run: fit.Run) -> dict[str, float]:
        patch.setattr(type(run.recorder), "heartbeat", heartbeat)
        return real(run)

    real = fit.score
    patch.setattr(fit, "score", score)


def fail_while_packing(patch: pytest.MonkeyPatch, error: BaseException) -> None:
    def pack(file: BinaryIO, **_: object) -> NoReturn:
        file.write(b"half of it")
        raise error

    patch.setattr(log_weights.np, "savez_compressed", pack)


def interrupt_while_packing(patch: pytest.MonkeyPatch) -> None:
    fail_while_packing(patch, KeyboardInterrupt())


def fill_the_disk(patch: pytest.MonkeyPatch) -> None:
    fail_while_packing(patch, OSError(errno.ENOSPC, "No space left on device"))


def make_the_nll_not_finite(patch: pytest.MonkeyPatch) -> None:
    def evaluate(*args: Any) -> Any:
        found = real(*args)
        return found._replace(metrics=found.metrics | {"nll": float("nan")})

    real = fit.evaluate
    patch.setattr(fit, "evaluate", evaluate)


@pytest.mark.parametrize(
    ("fault", "code", "complaint"),
    [
        (interrupt_at_the_second_batch, 130, "interrupted"),
        (interrupt_while_packing, 130, "interrupted"),
        (fill_the_disk, 1, "No space left on device"),
        (make_the_nll_not_finite, 1, "test/nll is nan"),
    ],
)
def test_an_evaluation_that_does_not_end_well_leaves_no_file(
    fault: Callable[[pytest.MonkeyPatch], None],
    code: int,
    complaint: str,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with monkeypatch.context() as patch:
        fault(patch)
        assert start(*KEEP, *SCORED) == code
    (line,) = said(capsys)
    assert complaint in line
    folder = only_directory(root).folder
    assert not [path for path in folder.rglob("*") if path.suffix in (".npz", ".tmp")]
    assert {path.name for path in folder.iterdir()} <= {
        *("config.yaml", "result.json", "metrics.csv", "run.log", "traceback.txt", ".lock"),
        *("checkpoints", "figures"),
    }
    assert start(*KEEP, *SCORED) == 0
    assert kept(only_directory(root))["log_weights"].shape == (40, 250)


def test_batches_of_any_size_stand_in_their_order_and_type(tmp_path: Path) -> None:
    whole = {name: torch.randn(7, 23, dtype=torch.float64) for name in ("a", "b")}
    path, again = tmp_path / "kept.npz", tmp_path / "again.npz"
    for target, sizes in ((path, [10, 10, 3]), (again, [1, 22])):
        with log_weights.writing(target, torch.arange(23)) as keep:
            for parts in zip(*(values.split(sizes, 1) for values in whole.values()), strict=True):
                keep(dict(zip(whole, parts, strict=True)))
    with np.load(path) as archive:
        for name, values in whole.items():
            assert np.array_equal(archive[name], values.numpy())
            assert archive[name].dtype == np.float64
    assert path.read_bytes() == again.read_bytes()


def test_a_file_that_no_disk_holds_is_refused() -> None:
    absurd = ["eval.keep_log_weights=true", "eval.samples=1000000", "eval.images=1000000"]
    with pytest.raises(UserError, match=r"eval\.samples=1000000.*numbers in log_weights\.npz, and at most"):
        settings(*absurd)
    settings(*absurd[1:])
    thirds = ["objective=sivi", "eval.semi_implicit.samples=40000", "eval.images=1000000"]
    with pytest.raises(UserError, match=r"eval\.semi_implicit\.samples=40000.*numbers in log_weights\.npz"):
        settings(*thirds, "eval.keep_log_weights=true")
    settings(*thirds)
