"""States on disk: written whole or not at all, and read back only if they are what was written.

A file is the SHA-256 of the rest in hexadecimal, a line break, and a torch archive of tensors and plain values.
"""

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from evidence.records import files


class Stateful(Protocol):
    """A module or an optimiser."""

    def state_dict(self) -> dict[str, Any]:
        """Everything it would lose."""

    def load_state_dict(self, state_dict: dict[str, Any], /) -> Any:
        """Take it back."""


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


def capture(step: int, seconds: float, parts: Mapping[str, Stateful], device: torch.device) -> dict[str, Any]:
    """All that the next step depends on: the state of every part and of the random generators in use."""
    state: dict[str, Any] = {"step": step, "seconds": seconds, "rng": torch.get_rng_state()}
    if device.type == "cuda":
        state["rng_cuda"] = torch.cuda.get_rng_state(device)
    return state | {name: part.state_dict() for name, part in parts.items()}


def restore(state: dict[str, Any], parts: Mapping[str, Stateful], device: torch.device) -> None:
    """Put `parts` and the random generators back where `capture` saw them."""
    for name, part in parts.items():
        part.load_state_dict(state[name])
    torch.set_rng_state(state["rng"].cpu())
    if device.type == "cuda" and "rng_cuda" in state:
        torch.cuda.set_rng_state(state["rng_cuda"].cpu(), device)
