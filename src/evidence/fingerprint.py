"""Which code computes a run, so that a number is never taken for another code's.

The code is the rooms of this package that a number passes through, the modules of the user's that a `_target_`
names, and torch. A run's record keeps it; where today's differs, its numbers might come out otherwise today.
"""

import hashlib
import importlib.util
import platform
import socket
import subprocess
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from evidence import hardware
from evidence.data import Dataset

PACKAGE = Path(__file__).parent
# What only checks, shows or records: a change there changes no number.
ONLOOKERS = {
    "command_line",
    "complaints",
    "composing",
    "config",
    "delivery",
    "errors",
    "figures",
    "files",
    "fingerprint",
    "gallery",
    "hardware",
    "help",
    "identity",
    "importing",
    "launching",
    "record",
    "report",
    "sections",
    "sweeping",
    "terminal",
    "tracking",
}


def code(config: dict[str, Any]) -> dict[str, str]:
    """{"evidence": hash, "torch": version} and a hash for each module of the user's that the config names."""
    rooms = (
        path
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.relative_to(PACKAGE).parts[0].removesuffix(".py") not in ONLOOKERS
    )
    own = {name: _hash([path]) for name, path in _modules(config)}
    return {"evidence": _hash(rooms), "torch": metadata.version("torch"), **own}


def difference(then: dict[str, str], now: dict[str, str]) -> str:
    """In words, what of the code has changed."""
    changes = [
        f"torch {then.get('torch')} is now {now['torch']}" if name == "torch" else f"{name} has changed"
        for name in sorted({*then, *now})
        if then.get(name) != now.get(name)
    ]
    return ", ".join(changes)


def data(dataset: Dataset) -> str:
    """A hash of the images, whatever a data set of the user's says or leaves out of itself."""
    digest = hashlib.sha256(f"{dataset.levels} {dataset.image_shape}".encode())
    for images in (dataset.train, dataset.valid, dataset.test):
        digest.update(f" {tuple(images.shape)} ".encode())
        digest.update(images.contiguous().numpy().data)
    return digest.hexdigest()[:16]


def provenance() -> dict[str, str]:
    """Which code ran where: git commit and dirty flag ("unknown" outside a checkout), host, processor, versions."""
    commit, changes = _git("rev-parse", "HEAD"), _git("status", "--porcelain")
    return {
        "git_commit": commit or "unknown",
        "git_dirty": "unknown" if changes is None else str(bool(changes)).lower(),
        "host": socket.gethostname(),
        "processor": hardware.processor(),
        "version_python": platform.python_version(),
        **{f"version_{name}": _version(name) for name in ("evidence", "torch", "mlflow")},
        "version_hydra": _version("hydra-core"),
    }


def _hash(paths: Iterator[Path] | list[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _modules(section: Any) -> Iterator[tuple[str, Path]]:
    """The modules, other than this package's and torch's, that `_target_` names anywhere in the section."""
    if isinstance(section, dict):
        target = section.get("_target_")
        if isinstance(target, str) and target.partition(".")[0] not in ("evidence", "torch"):
            yield from _module(target)
        section = list(section.values())
    if isinstance(section, list):
        for value in section:
            yield from _modules(value)


def _module(target: str) -> Iterator[tuple[str, Path]]:
    name = target
    while name := name.rpartition(".")[0]:
        try:
            spec = importlib.util.find_spec(name)
        except (ModuleNotFoundError, ValueError):
            continue  # a class, or nothing: building it will say so
        if spec is not None and spec.has_location and spec.origin is not None:
            yield name, Path(spec.origin)
            return


def _git(*arguments: str) -> str | None:
    command = ["git", "-C", str(PACKAGE), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "unknown"
