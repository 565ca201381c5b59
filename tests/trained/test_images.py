"""Images are read in the shapes that people have them, and refused in one line where a number would mean nothing."""

from typing import Any

import numpy as np
import pytest
import torch

from evidence.errors import UserError
from evidence.trained import images

BINARY = torch.arange(2 * 64).view(2, 64) % 3 == 0


@pytest.mark.parametrize(
    "given",
    [
        BINARY,
        BINARY.to(torch.uint8),
        BINARY.double().numpy(),
        BINARY.view(2, 8, 8),
        BINARY.view(2, 1, 8, 8),
        BINARY.int().tolist(),
    ],
)
def test_binary_images_of_any_type_and_shape_are_rows(given: Any) -> None:
    rows = images.read(given, 64, (8, 8), None, 0)
    assert rows.dtype == torch.float32
    assert torch.equal(rows, BINARY.float())


def test_one_image_is_a_batch_of_one() -> None:
    for one in (BINARY[0], BINARY[0].view(8, 8)):
        assert torch.equal(images.read(one, 64, (8, 8), None, 0), BINARY[:1].float())


def test_grey_images_are_binarized_as_asked() -> None:
    grey = torch.linspace(0, 1, 64).repeat(500, 1)
    assert torch.equal(images.read(grey, 64, (8, 8), "threshold", 0), (grey >= 0.5).float())
    drawn = images.read(grey, 64, (8, 8), "stochastic", 3)
    assert torch.equal(drawn[:7], images.read(grey[:7], 64, (8, 8), "stochastic", 3))
    assert not torch.equal(drawn, images.read(grey, 64, (8, 8), "stochastic", 4))
    assert not torch.equal(drawn[0], drawn[1])
    error = (drawn.mean(0) - grey[0]).abs() / (grey[0] * (1 - grey[0]) / 500).sqrt().clamp(min=1e-9)
    assert error.max() < 5


@pytest.mark.parametrize(
    ("given", "binarize", "said"),
    [
        (torch.rand(3, 64), None, r"values between: choose binarize='threshold'"),
        (255 * torch.ones(3, 64), "threshold", r"values from 255 to 255: divide grey values .*255"),
        (torch.full((3, 64), torch.nan), "threshold", r"values from nan to nan"),
        (-torch.ones(3, 64), None, r"values from -1 to -1"),
        (BINARY, "grey", r"binarize='grey': must be None, 'threshold' or 'stochastic'"),
        (torch.zeros(3, 784), None, r"shape \[B, 64\] or \[B, 8, 8\], and are float32 of shape \[3, 784\]"),
        (torch.zeros(3, 3, 8, 8), None, r"of shape \[3, 3, 8, 8\]"),
        (torch.zeros(3, 4, 16), None, r"of shape \[3, 4, 16\]"),
        (torch.zeros(0, 64), None, r"of shape \[0, 64\]"),
        (torch.zeros(()), None, r"of shape \[\]"),
        (torch.zeros(2, 64, dtype=torch.complex64), None, r"are complex64"),
        ("image.png", None, r"must be a tensor or an array, and are of type str"),
        (np.array(["a"]), None, r"of type ndarray"),
    ],
)
def test_what_is_no_image_is_explained_in_one_line(given: Any, binarize: Any, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        images.read(given, 64, (8, 8), binarize, 0)
    assert len(str(caught.value).splitlines()) == 1


def test_images_that_are_not_square_keep_their_sides() -> None:
    given = BINARY[:, :16].view(2, 2, 8)
    assert torch.equal(images.read(given, 16, (2, 8), None, 0), BINARY[:, :16].float())
    for other in (given.mT, given.reshape(2, 4, 4)):
        with pytest.raises(UserError, match=r"shape \[B, 16\] or \[B, 2, 8\], and are bool of shape"):
            images.read(other, 16, (2, 8), None, 0)
    for any_sides in (given, given.mT):
        assert images.read(any_sides, 16, None, None, 0).shape == (2, 16)
