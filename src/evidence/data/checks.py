"""Whether a data set is what `Dataset` says, checked once, when it is built.

Pixels of another range, type or shape would give a finished run with a meaningless number, or an error deep inside
of it. Each complaint is one line: the field, what it must be, what it is, and where it is known how to mend it.
"""

import json
import reprlib
from typing import Any

import numpy as np
import torch
from torch import Tensor

from evidence.data.sets import TEST_SEED, VALID_SEED, Dataset, Labels
from evidence.errors import UserError

LEAST = {"train": 1, "valid": 2, "test": 2}  # images
SEEDS = {"valid": VALID_SEED, "test": TEST_SEED}
# Only held-out images far brighter than any training image can be contradict `levels`: others may differ on purpose.
BRIGHTER = 2.0


def check(dataset: Any, pixels: int) -> None:
    """Raises UserError where `dataset` is no Dataset of images with `pixels` pixels whose numbers can be used."""
    if not isinstance(dataset, Dataset):
        raise UserError(
            f"data: must be an evidence.data.Dataset({', '.join(Dataset._fields)}), and data._target_ has returned"
            f" a value of type {_type(dataset)}"
        )
    _check_levels(dataset.levels)
    _check_image_shape(dataset.image_shape)
    splits = {name: getattr(dataset, name) for name in LEAST}
    for name, images in splits.items():
        _check_tensor(name, images)
        _check_size(name, images, pixels)
    height, width = dataset.image_shape
    if height * width != pixels:
        raise UserError(
            f"data.image_shape={(height, width)}: must have data.pixels={pixels} pixels, and has {height * width}"
        )
    _check_held_out("valid", splits["valid"], dataset.levels)
    _check_held_out("test", splits["test"], dataset.levels)
    _check_train(dataset)
    _check_provenance(dataset.provenance)
    _check_labels(dataset)


def _check_levels(levels: Any) -> None:
    if not _is_int(levels) or not 1 <= levels <= 255:
        raise UserError(
            f"data.levels={reprlib.repr(levels)}: must be an int from 1 to 255, the value of a training pixel that is"
            f" always one{'' if _is_int(levels) else f', and is of type {_type(levels)}'}"
        )


def _check_image_shape(shape: Any) -> None:
    is_pair = isinstance(shape, tuple | list) and len(shape) == 2
    if not is_pair or not all(_is_int(length) and length > 0 for length in shape):
        raise UserError(
            f"data.image_shape={reprlib.repr(shape)}: must be two ints above 0, the height and the width of an image"
        )


def _check_tensor(name: str, images: Any) -> None:
    """A dense torch.Tensor of bytes on the CPU, a row for each image."""
    field = f"data.{name}"
    if not isinstance(images, Tensor):
        mend = "torch.from_numpy(images)" if isinstance(images, np.ndarray) else "torch.tensor(images)"
        raise UserError(f"{field}: must be a torch.Tensor, and is of type {_type(images)}: {mend}")
    if images.device.type != "cpu":
        raise UserError(f"{field}: must be on the CPU, and is on device {images.device}: images.cpu()")
    if images.layout != torch.strided or images.is_nested:
        raise UserError(f"{field}: must be dense, and has the layout {images.layout}: images.to_dense()")
    if images.dtype != torch.uint8:
        kind = str(images.dtype).removeprefix("torch.")
        raise UserError(f"{field}: must have dtype uint8, and has {kind}{_values_and_cast(name, images)}")
    if images.dim() != 2:
        mend = ": images.flatten(1)" if images.dim() > 2 else ""
        raise UserError(f"{field}: must have the shape [images, pixels], and has {list(images.shape)}{mend}")


def _values_and_cast(name: str, images: Tensor) -> str:
    """Of images that are not bytes: which values they have, and what makes bytes of them."""
    if images.numel() == 0 or images.is_complex() or images.is_quantized:
        return ""
    values = images.double()
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():
        return " with values that are not finite"
    said, is_whole = f" with values from {low:g} to {high:g}", bool((values == values.round()).all())
    if is_whole and low >= 0 and high <= 255:
        return f"{said}: images.to(torch.uint8)"
    if low < 0 or high > 1:
        return f"{said}, where bytes go from 0 to 255"
    if name == "train":
        return f"{said}: (255 * images).round().to(torch.uint8), with levels=255"
    return f"{said}: {_binarization(name, 1)}"


def _check_size(name: str, images: Tensor, pixels: int) -> None:
    count, columns = images.shape
    if columns != pixels:
        mend = ": images.T" if count == pixels else ""
        raise UserError(
            f"data.{name}: must have data.pixels={pixels} columns, and has the shape {[count, columns]}{mend}"
        )
    if count < LEAST[name]:
        reason = "" if name == "train" else ": a standard error and the number of active units need two"
        raise UserError(f"data.{name}: must hold {LEAST[name]} or more images, and holds {count}{reason}")


def _check_held_out(name: str, images: Tensor, levels: int) -> None:
    values = images.numpy()
    highest = int(values.max())
    if highest > 1:
        is_two_valued = bool(((values == 0) | (values == highest)).all())
        scale = levels if highest <= levels else 255
        mend = "(images > 0).to(torch.uint8)" if is_two_valued else _binarization(name, scale)
        raise UserError(
            f"data.{name}: must hold only 0 and 1, and holds values up to {highest}: held-out images are binarized"
            f" once, from a fixed seed, so that all runs score the same pixels: {mend}"
        )


def _check_train(dataset: Dataset) -> None:
    levels, highest = dataset.levels, int(dataset.train.numpy().max())
    if highest > levels:
        raise UserError(
            f"data.train: must hold values from 0 to data.levels={levels}, and holds values up to {highest}: levels is"
            f" the value of a pixel that is always one, 255 for most grey images; for black and white ones"
            f" (images > {highest // 2}).to(torch.uint8) and levels=1"
        )
    if levels > 1 and highest <= 1:
        raise UserError(
            f"data.levels={levels}: must be 1 where data.train holds only 0 and 1, for a pixel is one with probability"
            " value / levels; of grey values in [0, 1] make (255 * images).round().to(torch.uint8), with levels=255"
        )
    if levels == 1 or highest == levels:
        return
    for name in ("valid", "test"):
        ones = float(np.count_nonzero(getattr(dataset, name).numpy()) / getattr(dataset, name).numel())
        if ones > BRIGHTER * highest / levels:
            raise UserError(
                f"data.levels={levels}: must be the value of a training pixel that is always one; the largest one,"
                f" {highest}, is one with probability {highest / levels:.2g}, and of the pixels of data.{name}"
                f" {ones:.2g} are one: levels={highest}"
            )


def _check_provenance(provenance: Any) -> None:
    expected = "must be a dict that JSON can hold (str, int, float, bool, None, lists and dicts of them)"
    if not isinstance(provenance, dict):
        raise UserError(
            f"data.provenance: {expected}, and is of type {_type(provenance)}: {{}} where unknown"
        )
    for key, value in provenance.items():
        try:
            json.dumps({key: value}, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise UserError(f"data.provenance: {expected}, and {reprlib.repr(key)} is not: {error}") from None


def _check_labels(dataset: Dataset) -> None:
    """Labels that are given. Those that are read when they are asked for are no run's business."""
    source = dataset.label_source
    if source is None or callable(source):
        return
    if not isinstance(source, Labels):
        fields = ", ".join(Labels._fields)
        raise UserError(
            f"data.label_source: must be an evidence.data.Labels({fields}), a function that returns one, or None,"
            f" and is of type {_type(source)}"
        )
    for name, labels in source._asdict().items():
        count = len(getattr(dataset, name))
        if not isinstance(labels, Tensor) or labels.shape != (count,):
            shape = list(labels.shape) if isinstance(labels, Tensor) else _type(labels)
            raise UserError(
                f"data.label_source.{name}: must be a torch.Tensor of shape [{count}], a label for each image,"
                f" and is {shape}"
            )


def _binarization(name: str, levels: int) -> str:
    """The code that makes 0 and 1 of grey images, as sets.py does."""
    chance = "images" if levels == 1 else f"images / {levels}"
    seed = f"torch.Generator().manual_seed({SEEDS[name]})"
    return f"(torch.rand(images.shape, generator={seed}) < {chance}).to(torch.uint8)"


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _type(value: Any) -> str:
    cls = type(value)
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
