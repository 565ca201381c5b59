"""The papers' splits, the same scored pixels for every run, and a stream that resumes exactly to the bit."""

import hashlib
import io
import os
import struct
from collections.abc import Callable
from importlib.metadata import distribution
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from scipy.io import savemat

from evidence.data import (
    Dataset,
    batches,
    digits,
    fashion_mnist,
    mean_pixels,
    mnist,
    mnist_fixed,
    omniglot,
    sets,
    steps_per_pass,
)
from evidence.data.sources import Collection
from evidence.errors import UserError
from evidence.runs import provenance

DATA = Path(os.environ.get("EVIDENCE_DATA", Path(__file__).parents[2] / "data"))


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Collections without sources, so that only what lies in the folder can be used."""
    for name in ("MNIST", "FASHION_MNIST", "OMNIGLOT", "MNIST_FIXED"):
        monkeypatch.setattr(sets, name, getattr(sets, name)._replace(sources=()))


def real(name: str) -> Path:
    """The data folder, where it holds the files of this collection."""
    if not all((DATA / name / file).exists() for file in getattr(sets, name.upper()).digests):
        pytest.skip(f"no {name} files in the data folder (EVIDENCE_DATA)")
    return DATA


def toy(images: int = 10, levels: int = 255) -> Dataset:
    """Images whose value is their number, so that a batch tells which images it holds."""
    train = torch.arange(images, dtype=torch.uint8)[:, None].expand(images, 4).contiguous()
    return Dataset(train, levels, train[:0], train[:0], (2, 2), {})


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("load", [mnist, fashion_mnist])
def test_idx_sets_are_split_59600_400_10000(load: Callable[..., Dataset]) -> None:
    folder = real(load.__name__)
    grey = load(folder, 784, "stochastic")
    assert (len(grey.train), len(grey.valid), len(grey.test)) == (59_600, 400, 10_000)
    assert grey.levels == 255 == grey.train.max()
    binary = load(folder, 784, "threshold")
    assert binary.levels == 1
    for part in (binary.train, grey.valid, grey.test, binary.valid, binary.test):
        assert (part.min(), part.max()) == (0, 1)
    assert torch.equal(binary.train, (grey.train / 255 >= 0.5).byte())
    assert grey.provenance["files"].keys() == {"train-images-idx3-ubyte", "t10k-images-idx3-ubyte"}
    assert provenance.described(grey)["splits"] == {"train": 59_600, "valid": 400, "test": 10_000}


@pytest.mark.usefixtures("no_network")
def test_mnist_scores_the_pixels_all_results_were_scored_on() -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    scored = provenance.described(mnist(real("mnist"), 784, "stochastic"))["scored_sha256"]
    assert scored["valid"].startswith("14226c4c454a0b65")
    assert scored["test"].startswith("933d1a9ce6eebb3d")
    assert torch.equal(torch.get_rng_state(), state)  # the global generator is the run's own


@pytest.mark.usefixtures("no_network")
def test_mnist_digits_are_upright_and_their_mean_is_known() -> None:
    dataset = mnist(real("mnist"), 784, "stochastic")
    first = dataset.train[0].view(28, 28)  # a five: its top bar is on the right, its lower hook on the left
    assert first[5:9, 14:].sum() > first[5:9, :14].sum()
    assert first[20:25, :14].sum() > first[20:25, 14:].sum()
    assert mean_pixels(dataset).mean().item() == pytest.approx(
        0.1307, abs=2e-4
    )  # the figure everybody quotes


@pytest.mark.usefixtures("no_network")
def test_fixed_mnist_is_split_50000_10000_10000() -> None:
    dataset = mnist_fixed(real("mnist_fixed"), 784)
    assert (len(dataset.train), len(dataset.valid), len(dataset.test)) == (50_000, 10_000, 10_000)
    assert dataset.levels == 1
    assert all(part.max() == 1 for part in (dataset.train, dataset.valid, dataset.test))
    assert dataset.provenance["binarization"] == "fixed"


def test_a_further_set_is_one_function_in_sets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    images = np.random.RandomState(0).randint(0, 256, (510, 784), np.uint8)
    files = {
        name: struct.pack(">IIII", 0x803, len(part), 28, 28) + part.tobytes()
        for name, part in ((sets.IDX_TRAIN, images[:500]), (sets.IDX_TEST, images[500:]))
    }
    (tmp_path / "kmnist").mkdir()
    for name, content in files.items():
        (tmp_path / "kmnist" / name).write_bytes(content)
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}

    def kmnist(folder: str | Path, pixels: int, binarization: sets.Binarization) -> Dataset:
        return sets._from_idx(Collection("kmnist", digests, ()), folder, pixels, binarization)

    monkeypatch.setattr(sets, "kmnist", kmnist, raising=False)
    config = {"_target_": "evidence.data.sets.kmnist", "folder": str(tmp_path), "binarization": "threshold"}
    with pytest.raises(UserError, match=r"data\.pixels=64: images of kmnist have 784 pixels"):
        kmnist(tmp_path, 64, "threshold")
    dataset = instantiate(config | {"pixels": 784})
    parts = (dataset.train, dataset.valid, dataset.test)
    for part, expected in zip(parts, np.split(images, [100, 500]), strict=True):
        assert np.array_equal(part.numpy(), expected >= 128)


def test_omniglot_is_turned_upright_and_split(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    grey = np.random.RandomState(0).rand(2_000 + 30, 28, 28).astype(np.float32)
    grey[:, 0, :] = 1.0  # the top row of every upright image
    published = grey.transpose(0, 2, 1).reshape(-1, 784).T  # [784, N], each image transposed
    file = io.BytesIO()
    savemat(file, {"data": published[:, :2_000], "testdata": published[:, 2_000:]})
    content = file.getvalue()
    (tmp_path / "omniglot").mkdir()
    (tmp_path / "omniglot" / "chardata.mat").write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    monkeypatch.setattr(sets, "OMNIGLOT", Collection("omniglot", {"chardata.mat": digest}, ()))

    dataset = omniglot(tmp_path, 784, "stochastic")
    assert (len(dataset.train), len(dataset.valid), len(dataset.test)) == (2_000 - 1_345, 1_345, 30)
    assert (dataset.train[:, :28] == 255).all()
    assert (dataset.test[:, :28] == 1).all()
    values = np.rint(grey[:2_000] * 255).astype(np.uint8).reshape(-1, 784)
    order = np.random.RandomState(123).permutation(2_000)  # Burda et al.'s
    assert np.array_equal(dataset.train.numpy(), values[order[:-1_345]])


def test_digits_need_no_file() -> None:
    dataset = digits(64, "stochastic")
    assert (len(dataset.train), len(dataset.valid), len(dataset.test)) == (1_397, 100, 300)
    assert dataset.levels == 16 == dataset.train.max()
    assert dataset.test.unique().tolist() == [0, 1]
    assert dataset.train.shape[1] == dataset.image_shape[0] * dataset.image_shape[1] == 64
    binary = digits(64, "threshold")
    assert torch.equal(binary.train, (dataset.train >= 8).byte())


def test_digits_have_the_classes_of_their_images() -> None:
    dataset = digits(64, "stochastic")
    labels = dataset.labels
    assert labels is not None
    assert [len(part) for part in labels] == [1397, 100, 300]
    whole = np.loadtxt(
        str(distribution("scikit-learn").locate_file(sets.DIGITS_FILE)), np.uint8, delimiter=","
    )
    classes = {row[:64].tobytes(): row[64] for row in whole}
    assert [classes[image.numpy().tobytes()] for image in dataset.train] == labels.train.tolist()
    assert sorted(set(labels.test.tolist())) == list(range(10))
    assert provenance.data(dataset) == provenance.data(dataset._replace(label_source=None))


def test_labels_of_idx_files_are_read_when_they_are_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    files = {
        sets.IDX_TRAIN: struct.pack(">4xIII", 500, 28, 28) + bytes(500 * 784),
        sets.IDX_TEST: struct.pack(">4xIII", 3, 28, 28) + bytes(3 * 784),
        sets.IDX_TRAIN_LABELS: struct.pack(">4xI", 500) + bytes(number % 10 for number in range(500)),
        sets.IDX_TEST_LABELS: struct.pack(">4xI", 3) + bytes((7, 2, 1)),
    }
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    images = Collection("toys", {name: digests[name] for name in (sets.IDX_TRAIN, sets.IDX_TEST)}, ())
    labels = images._replace(digests={name: digests[name] for name in digests if name not in images.digests})
    monkeypatch.setattr(sets, "MNIST", images)
    monkeypatch.setitem(sets.LABELS, "toys", labels)
    (tmp_path / "toys").mkdir()
    for name in images.digests:
        (tmp_path / "toys" / name).write_bytes(files[name])
    dataset = mnist(tmp_path, 784, "stochastic")  # without any label
    with pytest.raises(UserError, match=sets.IDX_TRAIN_LABELS):
        _ = dataset.labels
    for name in labels.digests:
        (tmp_path / "toys" / name).write_bytes(files[name])
    assert dataset.labels is not None
    assert dataset.labels.train.tolist() == [number % 10 for number in range(100)]
    assert dataset.labels.valid.tolist() == [number % 10 for number in range(100, 500)]
    assert dataset.labels.test.tolist() == [7, 2, 1]


def test_a_set_without_classes_has_no_labels() -> None:
    assert toy().labels is None


def test_scored_pixels_do_not_depend_on_the_seed() -> None:
    torch.manual_seed(1)
    first = digits(64, "stochastic")
    torch.manual_seed(2)
    second = digits(64, "stochastic")
    assert torch.equal(first.valid, second.valid)
    assert torch.equal(first.test, second.test)


def test_mistakes_in_the_config_are_named() -> None:
    with pytest.raises(UserError, match=r"data\.pixels=784: images of digits have 64 pixels"):
        digits(784, "stochastic")
    with pytest.raises(UserError, match=r"data\.binarization=grey: stochastic or threshold"):
        digits(64, "grey")
    with pytest.raises(UserError, match=r"trainer\.batch_size=11: the data set has only 10"):
        batches(toy(10), 11, seed=0, first_step=0, device="cpu")


def test_mean_pixels_is_the_mean_probability() -> None:
    dataset = digits(64, "stochastic")
    means = mean_pixels(dataset)
    assert means.dtype == torch.float32
    assert torch.allclose(means, (dataset.train.double() / 16).mean(0).float())


def test_each_image_is_drawn_once_a_pass_in_a_new_order() -> None:
    dataset = toy(12, levels=1)  # one level: the values come through unchanged
    assert steps_per_pass(dataset, 3) == 4
    drawn = torch.cat([x[:, 0] for x in islice(batches(dataset, 3, 0, 0, "cpu"), 8)]).view(2, 12).tolist()
    assert sorted(drawn[0]) == sorted(drawn[1]) == list(range(12))
    assert drawn[0] != drawn[1]
    other = torch.cat([x[:, 0] for x in islice(batches(dataset, 3, 1, 0, "cpu"), 4)]).tolist()
    assert other not in drawn  # nor does pass 0 of one seed repeat a pass of another


def test_the_incomplete_batch_is_left_out() -> None:
    dataset = toy(14, levels=1)
    drawn = torch.cat([x[:, 0] for x in islice(batches(dataset, 4, 0, 0, "cpu"), 3)]).tolist()
    assert steps_per_pass(dataset, 4) == 3
    assert len(set(drawn)) == 12


@pytest.mark.parametrize("resumed_at", [0, 5, 69, 70, 150])
def test_the_stream_resumed_equals_the_uninterrupted_one(resumed_at: int) -> None:
    dataset = digits(64, "stochastic")  # 69 steps a pass at 20 a batch
    stream = batches(dataset, 20, 3, 0, "cpu")
    for _ in range(resumed_at):
        next(stream)
    state = torch.get_rng_state()
    expected = torch.stack(list(islice(stream, 80)))
    torch.manual_seed(99)
    torch.set_rng_state(state)
    resumed = torch.stack(list(islice(batches(dataset, 20, 3, resumed_at, "cpu"), 80)))
    assert torch.equal(resumed, expected)


def test_a_stochastic_pixel_is_one_with_probability_value_over_levels() -> None:
    train = torch.arange(256, dtype=torch.uint8)[None].repeat(50, 1)
    dataset = Dataset(train, 255, train[:0], train[:0], (16, 16), {})
    draws = 400
    x = torch.cat(list(islice(batches(dataset, 50, 0, 0, "cpu"), draws)))
    assert x.dtype == torch.float32
    assert x.unique().tolist() == [0, 1]
    p = torch.arange(256, dtype=torch.float64) / 255
    standard_error = (p * (1 - p) / len(x)).sqrt()
    assert ((x.double().mean(0) - p).abs() <= 5 * standard_error).all()  # exact where p is 0 or 1
    z = (x.double().mean(0) - p)[1:-1] / standard_error[1:-1]
    assert abs(z.mean().item()) < 5 / len(z) ** 0.5  # no bias shared by all pixels either


def test_binary_images_take_no_noise() -> None:
    state = torch.get_rng_state()
    x = next(batches(toy(levels=1), 5, 0, 0, "cpu"))
    assert x.dtype == torch.float32
    assert torch.equal(torch.get_rng_state(), state)
