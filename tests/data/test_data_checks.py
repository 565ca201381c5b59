"""Data sets of a user's that are not what they must be: one line that names the field, and no run is begun."""

import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
from runs import directories, only_directory, said, start

from evidence import data
from evidence.data import Dataset, sets
from evidence.errors import UserError

# GREY, GREYS and BINARY are right, with 8x8 pixels and 16 levels; a case says what to put in place of a field.
OWN_DATA = """
import datetime, pathlib
import numpy as np, torch
from evidence.data import Dataset, Labels

RANDOM = torch.Generator().manual_seed(5)
GREY = torch.randint(17, (200, 64), dtype=torch.uint8, generator=RANDOM)
GREYS = torch.randint(17, (40, 64), dtype=torch.uint8, generator=RANDOM)
BINARY = torch.randint(2, (40, 64), dtype=torch.uint8, generator=RANDOM)
RIGHT = dict(train=GREY, levels=16, valid=BINARY[:20], test=BINARY[20:], image_shape=(8, 8), provenance={})
NAN = GREYS / 16
NAN[3, 5] = np.nan

def load(**options):
    fields = RIGHT | dict(CASE)
    return Dataset(**fields)
"""
OWN = ["data._target_=checked_data.load", "data.name=own", "tracking=none"]


@pytest.fixture
def run_own(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., int]]:
    """Starts a run on the user's data set with this case's fields, or on what another module returns."""
    monkeypatch.syspath_prepend(str(root))

    def run(case: str, *overrides: str, text: str = OWN_DATA) -> int:
        (root / "checked_data.py").write_text(text.replace("CASE", case))
        return start(*OWN, *overrides)

    yield run
    sys.modules.pop("checked_data", None)  # the next test's is another


TYPES = [
    ("train=GREY.numpy()", "of type numpy.ndarray: torch.from_numpy(images)"),
    ("test=BINARY.tolist()", "data.test: must be a torch.Tensor, and is of type list"),
    ("valid=None", "data.valid: must be a torch.Tensor, and is of type NoneType"),
    ("train=GREY.to('meta')", "data.train: must be on the CPU, and is on device meta"),
    ("train=GREY.to_sparse()", "data.train: must be dense, and has the layout torch.sparse_coo"),
    (
        "train=GREY / 16",
        "data.train: must have dtype uint8, and has float32 with values from 0 to 1:"
        " (255 * images).round().to(torch.uint8), with levels=255",
    ),
    ("train=GREY.float()", "has float32 with values from 0 to 16: images.to(torch.uint8)"),
    ("train=GREY.double() - 8", "has float64 with values from -8 to 8, where bytes go from 0 to 255"),
    ("train=GREY.to(torch.complex64)", "data.train: must have dtype uint8, and has complex64"),
    ("train=-GREY.long()", "data.train: must have dtype uint8, and has int64 with values from -16"),
    ("train=20 * GREY.int()", "has int32 with values from 0 to 320, where bytes go from 0 to 255"),
    ("train=GREY.to(torch.int8)", "has int8 with values from 0 to 16: images.to(torch.uint8)"),
    ("test=BINARY.bool()", "data.test: must have dtype uint8, and has bool with values from 0"),
    ("test=BINARY.float()", "float32 with values from 0 to 1: images.to(torch.uint8)"),
    ("test=NAN", "data.test: must have dtype uint8, and has float32 with values that are not finite"),
    ("train=NAN * np.inf", "float32 with values that are not finite"),
    (
        "valid=GREYS / 16",
        "data.valid: must have dtype uint8, and has float32 with values from 0 to 1:"
        " (torch.rand(images.shape, generator=torch.Generator().manual_seed(1)) < images).to(torch.uint8)",
    ),
    ("test=BINARY[:0].float()", "data.test: must have dtype uint8, and has float32"),
]
SHAPES = [
    ("train=GREY.view(-1, 8, 8)", "and has [200, 8, 8]: images.flatten(1)"),
    ("test=BINARY.view(-1, 1, 8, 8)", "[images, pixels], and has [40, 1, 8, 8]"),
    ("train=GREY[:, 0]", "data.train: must have the shape [images, pixels], and has [200]"),
    ("train=GREY[:, :63]", "data.train: must have data.pixels=64 columns, and has the shape [200, 63]"),
    ("valid=BINARY[:, :49]", "data.valid: must have data.pixels=64 columns, and has the shape [40, 49]"),
    ("test=BINARY.T", "data.test: must have data.pixels=64 columns, and has the shape [64, 40]: images.T"),
    ("image_shape=(8, 9)", "data.image_shape=(8, 9): must have data.pixels=64 pixels, and has 72"),
    ("image_shape=(64,)", "data.image_shape=(64,): must be two ints above 0"),
    ("image_shape=(-8, -8)", "data.image_shape=(-8, -8): must be two ints above 0"),
    ("image_shape=(8.0, 8.0)", "data.image_shape=(8.0, 8.0): must be two ints above 0"),
    ("image_shape=(1, 8, 8)", "data.image_shape=(1, 8, 8): must be two ints above 0"),
    ("image_shape=64", "data.image_shape=64: must be two ints above 0"),
    ("train=GREY[:0]", "data.train: must hold 1 or more images, and holds 0"),
    ("valid=BINARY[:0]", "data.valid: must hold 2 or more images, and holds 0: a standard"),
    ("valid=BINARY[:1]", "data.valid: must hold 2 or more images, and holds 1: a standard"),
    ("test=BINARY[:1]", "data.test: must hold 2 or more images, and holds 1: a standard"),
    ("test=BINARY[:0]", "data.test: must hold 2 or more images, and holds 0: a standard"),
    ("train=GREY[:19]", "trainer.batch_size=20: the data set has only 19 training images"),
]
VALUES = [
    ("levels=0", "data.levels=0: must be an int from 1 to 255, the value of a training pixel"),
    ("levels=-16", "data.levels=-16: must be an int from 1 to 255"),
    ("levels=256", "data.levels=256: must be an int from 1 to 255"),
    ("levels=16.0", "data.levels=16.0: must be an int from 1 to 255, the value of a training pixel"),
    ("levels=True", "data.levels=True: must be an int from 1 to 255"),
    ("levels='16'", "data.levels='16': must be an int from 1 to 255"),
    ("levels=None", "data.levels=None: must be an int from 1 to 255"),
    ("levels=GREY.max()", "is always one, and is of type torch.Tensor"),
    ("levels=np.uint8(16)", "is always one, and is of type numpy.uint8"),
    ("levels=15", "data.train: must hold values from 0 to data.levels=15, and holds values up to 16"),
    ("levels=1", "data.train: must hold values from 0 to data.levels=1, and holds values up to 16"),
    ("train=255 * (GREY > 7), levels=1", "has int64 with values from 0 to 255: images.to(torch.uint8)"),
    (
        "train=255 * (GREY > 7).byte(), levels=1",
        "must hold values from 0 to data.levels=1, and holds values up to 255: levels is the value of a pixel that is"
        " always one, 255 for most grey images; for black and white ones (images > 127).to(torch.uint8) and levels=1",
    ),
    ("train=(GREY > 7).byte()", "data.levels=16: must be 1 where data.train holds only 0 and 1"),
    ("train=(GREY / 17).byte(), levels=255", "data.levels=255: must be 1 where data.train"),
    (
        "levels=255",
        "data.levels=255: must be the value of a training pixel that is always one; the largest one, 16, is one with"
        " probability 0.063",
    ),
    (
        "test=GREYS",
        "data.test: must hold only 0 and 1, and holds values up to 16: held-out images are binarized once, from a fixed"
        " seed, so that all runs score the same pixels:"
        " (torch.rand(images.shape, generator=torch.Generator().manual_seed(2)) < images / 16).to(torch.uint8)",
    ),
    ("valid=15 * GREYS", "manual_seed(1)) < images / 255).to(torch.uint8)"),
    ("test=255 * BINARY", "data.test: must hold only 0 and 1, and holds values up to 255"),
    ("valid=255 * BINARY", "so that all runs score the same pixels: (images > 0).to(torch.uint8)"),
    ("test=-BINARY", "data.test: must hold only 0 and 1, and holds values up to 255"),
    ("provenance=None", "data.provenance: must be a dict that JSON can hold"),
    ("provenance=[]", "lists and dicts of them), and is of type list: {} where unknown"),
    ("provenance={'at': datetime.datetime.now()}", "and 'at' is not: Object of type datetime is not JSON"),
    ("provenance={'by': {'file': pathlib.Path('x')}}", "and 'by' is not: Object of type"),
    ("provenance={'mean': GREY.float().mean()}", "and 'mean' is not: Object of type Tensor is not JSON"),
    ("provenance={('a', 'b'): 1}", "and ('a', 'b') is not: keys must be str"),
    ("provenance={'mean': np.nan}", "and 'mean' is not: Out of range float values are not JSON compliant"),
    ("provenance=(p := {}, p.update(me=p))[0]", "and 'me' is not: Circular reference detected"),
]


@pytest.mark.parametrize(("case", "complaint"), TYPES + SHAPES + VALUES)
def test_a_wrong_data_set_is_one_line_and_leaves_no_record(
    case: str, complaint: str, root: Path, run_own: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_own(case) == 1
    (line,) = said(capsys)
    assert line.startswith("evidence: ")
    assert complaint in line
    assert directories(root) == []
    assert not list(root.glob("outputs/*"))


@pytest.mark.parametrize(
    ("returned", "complaint"),
    [
        ("tuple(RIGHT.values())", "and data._target_ has returned a value of type tuple"),
        ("RIGHT", "and data._target_ has returned a value of type dict"),
        ("None", "and data._target_ has returned a value of type NoneType"),
        ("Dataset", "and data._target_ has returned a value of type type"),
    ],
)
def test_what_is_no_data_set_is_named(
    returned: str,
    complaint: str,
    root: Path,
    run_own: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_own("", text=OWN_DATA.replace("Dataset(**fields)", returned)) == 1
    (line,) = said(capsys)
    fields = "train, levels, valid, test, image_shape, provenance, label_source"
    assert line == f"evidence: data: must be an evidence.data.Dataset({fields}), {complaint}"
    assert directories(root) == []


def test_data_pixels_that_are_not_the_data_sets_are_named(
    root: Path, run_own: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_own("", "data.pixels=63") == 1
    (line,) = said(capsys)
    assert "data.train: must have data.pixels=63 columns, and has the shape [200, 64]" in line
    assert directories(root) == []


RIGHT = {
    "grey": "",
    "black and white": "train=(GREY > 7).byte(), levels=1",
    "whose brightest pixel is not white": "train=GREY // 3",
    "of other brightness than its test images": "train=GREY // 2, test=torch.ones_like(BINARY)",
    "of 255 levels": "train=15 * GREY, levels=255",
    "of as many images as needed": "train=GREY[:20], valid=BINARY[:2], test=BINARY[:2]",
    "in other layouts of memory": "train=GREY.T.contiguous().T, test=BINARY[0].expand(9, 64)",
    "with the shape in a list": "image_shape=[4, 16]",
    "of one test set for both": "valid=BINARY, test=BINARY",
    "of images without a stroke": "train=0 * GREY, levels=1, test=0 * BINARY",
    "with labels": "label_source=Labels(*(torch.zeros(n, dtype=torch.int64) for n in (200, 20, 20)))",
    "with labels that are read later": "label_source=lambda: 1 / 0",
    "with all that JSON holds": "provenance={'a': [1, 2.5, None, True, ('b',)], 3: {}}",
}


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("case", RIGHT.values(), ids=RIGHT)
def test_a_right_data_set_is_not_refused(
    case: str, root: Path, run_own: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["model.latent=[3]", "model.hidden=[[5]]", "trainer.steps=2"]
    assert run_own(case, *small) == 0
    assert all(line.startswith(("evidence: data.valid: ", "evidence: data.test: ")) for line in said(capsys))
    assert only_directory(root).read().status == "FINISHED"


def test_the_projects_own_data_sets_are_checked_too(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = sets._binarized
    monkeypatch.setattr(sets, "_binarized", lambda images, levels, seed: images)
    assert start("tracking=none") == 1
    (line,) = said(capsys)
    assert "data.valid: must hold only 0 and 1, and holds values up to 16" in line
    assert directories(root) == []
    monkeypatch.setattr(sets, "_binarized", real)
    data.check(sets.digits(64, "stochastic"), 64)


def test_digits_of_another_scikit_learn_are_not_mistaken_for_these(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = sets.digits(64, "stochastic")
    assert dataset.provenance["files"]["digits"]["sha256"] == sets.DIGITS_SHA256
    file = str(metadata.distribution("scikit-learn").locate_file(sets.DIGITS_FILE))
    images = np.loadtxt(file, np.uint8, delimiter=",")
    images[5, 7] ^= 1
    changed = tmp_path / "digits.csv.gz"
    np.savetxt(changed, images, "%d", ",")
    monkeypatch.setattr(sets, "DIGITS_FILE", str(changed))  # an absolute path stands for itself
    assert start("tracking=none") == 1
    (line,) = said(capsys)
    assert (
        f"data=digits: the images of scikit-learn {metadata.version('scikit-learn')} have not the pinned"
        in line
    )
    assert directories(root) == []
    changed.write_bytes(Path(file).read_bytes()[:5000])
    with pytest.raises(UserError, match=r"data=digits: .*digits\.csv\.gz of scikit-learn .* cannot be read"):
        sets.digits(64, "stochastic")


def test_a_large_data_set_is_checked_without_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    train = torch.randint(255, (60_000, 784), dtype=torch.uint8)
    held_out = torch.randint(2, (10_000, 784), dtype=torch.uint8)
    monkeypatch.setattr(torch.Tensor, "to", None)  # nor anything that makes another type of it
    data.check(Dataset(train, 255, held_out, held_out, (28, 28), {}), 784)


@pytest.mark.parametrize(
    ("case", "line"),
    [
        ("{'test': 0 * BINARY}", "data.test: all 40 images are the same"),
        (
            "{'valid': (torch.arange(40 * 64) % 50 == 0).view(40, 64).byte()}",
            "data.valid: 0.02 of the pixels are one, and of data.train 0.5 on average: see how they are binarized",
        ),
        (
            "{'levels': 1, 'train': BINARY, 'valid': BINARY[:7], 'test': 1 - BINARY}",
            "data.valid: 7 of 7 images are in data.train too",
        ),
    ],
)
def test_what_is_hardly_meant_is_noted(
    case: str, line: str, run_own: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_own(case) == 0
    assert [each for each in said(capsys) if "data." in each] == [f"evidence: {line}"]


def test_usual_data_raise_no_doubts() -> None:
    for binarization in ("stochastic", "threshold"):
        assert [*data.doubts(data.digits(64, binarization))] == []
