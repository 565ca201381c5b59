"""Writes states to disk and reads them back. A file is written whole or not at all, and checked when read.

`100.pt` is a plain torch archive of tensors and plain values, which torch.load(path, weights_only=True) opens.
`100.pt.sha256` beside it has its SHA-256, as the command sha256sum writes it. The checksum is there before its file
and goes after it. So a file without a checksum was written by no process of this version.
"""

import hashlib
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch

from evidence.records import files
from evidence.records.damage import damaged, reading

SUFFIX = ".sha256"


class Checkpoint(NamedTuple):
    """A state as it was read.

    It has the states of the parts, `mean_pixels` as the model was given them, `seconds` of training, `execution`,
    and `metrics_size` in bytes.
    """

    step: int
    state: dict[str, Any]
    path: Path


def save(path: Path, state: dict[str, Any]) -> None:
    """Write `state` to `path` atomically. After a crash at any moment the old file or the new one is there."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    payload = buffer.getvalue()
    line = f"{hashlib.sha256(payload).hexdigest()}  {path.name}\n".encode()
    checksum = _checksum(path)
    before = checksum.read_bytes() if path.is_file() and checksum.is_file() else b""
    files.write(checksum, line, before)  # both are right until the file is replaced
    files.write(path, payload)
    if before:
        files.write(checksum, line)


def load(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """The state saved under `path`; no pickled code is run.

    Raises: Damaged where it cannot be read, or has not the checksum beside it.
    """
    checksum = _checksum(path)
    with reading(path):
        try:
            digests = [line[:64] for line in checksum.read_bytes().splitlines()]
        except FileNotFoundError:
            if not path.exists():
                raise
            reason = f"there is no {checksum.name} beside it, as an earlier version of evidence left it"
            raise damaged(path, reason) from None
        payload = path.read_bytes()
        if hashlib.sha256(payload).hexdigest().encode() not in digests:
            raise damaged(path, "its checksum is wrong")
    state: dict[str, Any] = torch.load(io.BytesIO(payload), map_location=device, weights_only=True)
    return state


def drop(folder: Path, paths: Iterable[Path]) -> None:
    """Delete these checkpoints of the folder, and each checksum whose checkpoint is gone or was never written."""
    for path in paths:
        path.unlink(missing_ok=True)
    for checksum in folder.glob(f"*{SUFFIX}"):
        if not checksum.with_suffix("").exists():
            checksum.unlink(missing_ok=True)


def _checksum(path: Path) -> Path:
    return path.with_name(path.name + SUFFIX)
