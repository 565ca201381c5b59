"""Reads the images that a user gives to a trained model."""

import math
from typing import Any, Literal

import torch
from torch import Tensor

from evidence.errors import UserError
from evidence.streams import BINARIZATION, Stream, drawing, uniform

Binarize = Literal["threshold", "stochastic"]


def read(
    images: Any, pixels: int, sides: tuple[int, int] | None, binarize: Binarize | None, seed: int
) -> Tensor:
    """Images as float32 rows of 0 and 1, [B, X] with X = `pixels`.

    They may be a tensor or an array, [B, X], [B, H, W] or [B, 1, H, W], or one image. `sides` are H and W, and None
    where any will do. `binarize` makes 0 and 1 of
    grey values between 0 and 1: "threshold" at 0.5, "stochastic" with the value as the probability of 1.
    Raises: UserError where they are anything else.
    """
    if binarize not in (None, "threshold", "stochastic"):
        raise UserError(f"binarize={binarize!r}: must be None, 'threshold' or 'stochastic'")
    try:
        values = torch.as_tensor(images).detach()
    except (TypeError, ValueError, RuntimeError) as error:
        kind = type(images).__name__
        raise UserError(f"images: must be a tensor or an array, and are of type {kind} ({error})") from None
    rows = _rows(values, pixels, sides).cpu().to(torch.float32)
    is_binary = bool(((rows == 0) | (rows == 1)).all())
    if is_binary:
        return rows
    low, high = float(rows.min()), float(rows.max())
    if not (low >= 0 and high <= 1):  # NaN too
        raise UserError(
            f"images: must be 0 and 1, and have values from {low:g} to {high:g}: divide grey values by the largest"
            " possible one, 255 for most images, and choose binarize='threshold' or 'stochastic'"
        )
    if binarize is None:
        raise UserError(
            "images: must be 0 and 1, and have values between: choose binarize='threshold' (at 0.5) or"
            " binarize='stochastic' (1 with the value as its probability)"
        )
    if binarize == "threshold":
        return (rows >= 0.5).to(rows.dtype)
    with drawing(Stream(seed, BINARIZATION, images=torch.arange(len(rows)))):
        return (uniform((1, *rows.shape), rows)[0] < rows).to(rows.dtype)


def _rows(values: Tensor, pixels: int, sides: tuple[int, int] | None) -> Tensor:
    """The images as rows [B, X]."""
    shape = list(values.shape)
    is_image = tuple(shape[-2:]) == sides if sides else math.prod(shape[-2:]) == pixels
    has_one_channel = len(shape) in (2, 3) or (len(shape) == 4 and shape[1] == 1)
    are_rows = len(shape) in (1, 2) and shape[-1] == pixels
    if not values.numel() or values.is_complex() or not (are_rows or (is_image and has_one_channel)):
        height, width = sides or ("H", "W")
        dtype = str(values.dtype).removeprefix("torch.")
        raise UserError(
            f"images: must have the shape [B, {pixels}] or [B, {height}, {width}], and are {dtype} of shape {shape}"
        )
    return values.reshape(-1, pixels)
