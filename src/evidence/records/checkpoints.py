"""States on disk: written whole or not at all, and read back only if they are what was written.

A file is the SHA-256 of the rest in hexadecimal, a line break, and a torch archive of tensors and plain values.
"""

import hashlib
import io
from pathlib import Path
from typing import Any, NamedTuple

import torch

from evidence.records import files


class Checkpoint(NamedTuple):
    """A state that was read: the parts' states, `seconds` of training, `execution`, and `metrics_size` in bytes."""

    step: int
    state: dict[str, Any]
    path: Path


class CorruptCheckpoint(Exception):
    """The file is not what was written."""


def save(path: Path, state: dict[str, Any]) -> None:
    """Write `state` under `path` atomically: after a crash at any moment the old file or the new one is there."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    payload = buffer.getvalue()
    files.write(path, hashlib.sha256(payload).hexdigest().encode(), b"\n", payload)


def load(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """The state saved under `path`; no pickled code is run.

    Raises: CorruptCheckpoint if the checksum does not hold.
    """
    digest, _, payload = path.read_bytes().partition(b"\n")
    if hashlib.sha256(payload).hexdigest().encode() != digest:
        raise CorruptCheckpoint(f"{path} is torn or damaged")
    state: dict[str, Any] = torch.load(io.BytesIO(payload), map_location=device, weights_only=True)
    return state
