"""Writes states to disk and reads them back. A file is written whole or not at all, and checked when read.

A file is the SHA-256 of the rest in hexadecimal, a line break, and a torch archive of tensors and plain values.
"""

import hashlib
import io
from pathlib import Path
from typing import Any, NamedTuple

import torch

from evidence.records import files
from evidence.records.damage import damaged, reading


class Checkpoint(NamedTuple):
    """A state as it was read.

    It has the states of the parts, `seconds` of training, `execution`, and `metrics_size` in bytes.
    """

    step: int
    state: dict[str, Any]
    path: Path


def save(path: Path, state: dict[str, Any]) -> None:
    """Write `state` to `path` atomically. After a crash at any moment the old file or the new one is there."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    payload = buffer.getvalue()
    files.write(path, hashlib.sha256(payload).hexdigest().encode(), b"\n", payload)


def load(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """The state saved under `path`; no pickled code is run.

    Raises: Damaged where it cannot be read, or its checksum is wrong.
    """
    with reading(path):
        digest, _, payload = path.read_bytes().partition(b"\n")
        if hashlib.sha256(payload).hexdigest().encode() != digest:
            raise damaged(path, "its checksum is wrong")
    state: dict[str, Any] = torch.load(io.BytesIO(payload), map_location=device, weights_only=True)
    return state
