"""Says which code computes a run, so that a number is never taken for that of other code.

The code is the part of this package that computes the run (package_code.py), the user's modules that a `_target_`
names with all that they import (sources.py), and the versions of torch and of the installed packages that these
import. A run's record keeps it. Where today's code differs, its numbers may differ.
"""

import hashlib
import json
import platform
import re
import socket
import subprocess
from collections.abc import Iterator, Mapping
from importlib import metadata
from os.path import isfile
from pathlib import Path
from typing import Any

from evidence import __version__, project
from evidence.data import Dataset
from evidence.records.record import OF_METRICS
from evidence.runs import hardware
from evidence.runs.package_code import hash_of_all, package_hash
from evidence.runs.sources import is_own, sources

PACKAGE = Path(__file__).parents[1]
HASH = re.compile(r"[0-9a-f]{16}")
TARGET = "._target_"  # the end of the key of a class's name
DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")


def code(config: Mapping[str, Any]) -> dict[str, str]:
    """The code that computes the run of this config, as hashes and versions by name.

    "evidence" has a hash of this package's part, and "torch" its version. The user's classes add a hash for each
    file of the user's, by the name of its module, and the version of each installed package that these import. What
    only eval.metrics uses has names of its own, since no training depends on it.
    """
    scored = dict(config.get("eval") or {})
    metrics = scored.pop("metrics", None)
    found = _code({**config, "eval": scored})
    return found | (
        {f"{OF_METRICS}{name}": value for name, value in _code(metrics).items()} if metrics else {}
    )


def _code(config: Mapping[str, Any]) -> dict[str, str]:
    texts = list(_texts(config, ""))
    targets = [text for key, text, _ in texts if key.endswith(TARGET)]
    beside = [text for _, text, is_given in texts if is_given and DOTTED.fullmatch(text)]
    found = sources([*filter(is_own, targets), *beside])
    ours = [*(name for name in targets if not is_own(name)), *found.of_package]
    versions = {name: _version_of(name) for name in found.installed - {"torch"}}
    return {
        "evidence": package_hash(PACKAGE, ours),
        "torch": metadata.version("torch"),
        **versions,
        **found.hashes,
    }


def code_digest(code: Mapping[str, str]) -> str:
    """One hash for all of `code`."""
    return hashlib.sha256(json.dumps(code, sort_keys=True).encode()).hexdigest()[:16]


def source_digest(module: str) -> str:
    """A hash of the package, of torch's version, and of a module outside of the package with all that it imports."""
    return code_digest(code({"_target_": f"{module}.anything"}))


def difference(then: Mapping[str, str], now: Mapping[str, str]) -> str:
    """What has changed between two codes, as text."""

    def words(name: str) -> str:
        before, after = then.get(name), now.get(name)
        if before is None or after is None:
            return f"{name} is {'new' if before is None else 'no longer used'}"
        return f"{name} has changed" if HASH.fullmatch(after) else f"{name} {before} is now {after}"

    changed = [name for name in sorted({*then, *now}) if then.get(name) != now.get(name)]
    return ", ".join(map(words, changed))


def content(config: Mapping[str, Any]) -> dict[str, str]:
    """A hash of each file that a class is given, by its key. Files in a given folder are not hashed."""
    sections = {name: config[name] for name in ("model", "objective", "trainer")}
    sections |= {"eval.metrics": (config.get("eval") or {}).get("metrics")}
    texts = [each for name, section in sections.items() for each in _texts(section, name)]
    return {key: _hash(Path(text)) for key, text, _ in texts if not key.endswith(TARGET) and isfile(text)}


def data(dataset: Dataset) -> str:
    """A hash of the images, the levels of grey and the image shape. The data set's own description does not count."""
    digest = hashlib.sha256(f"{dataset.levels} {dataset.image_shape}".encode())
    for images in (dataset.train, dataset.valid, dataset.test):
        digest.update(f" {tuple(images.shape)} ".encode())
        digest.update(images.contiguous().numpy().data)
    return digest.hexdigest()[:16]


def described(dataset: Dataset) -> dict[str, Any]:
    """The data set's own description, with the numbers of its images and checksums of those that are scored."""
    parts = {name: getattr(dataset, name) for name in ("train", "valid", "test")}
    return dataset.provenance | {
        "splits": {name: len(images) for name, images in parts.items()},
        "scored_sha256": {
            name: hashlib.sha256(parts[name].contiguous().numpy().data).hexdigest()
            for name in ("valid", "test")
        },
    }


def provenance() -> dict[str, str]:
    """Which code runs where: git commit and whether it is dirty, a hash of all mathematics, processor and versions.

    Outside of a checkout the commit is "unknown".
    """
    commit, changes = _git("rev-parse", "HEAD"), _git("status", "--porcelain")
    return {
        "git_commit": commit or "unknown",
        "git_dirty": "unknown" if changes is None else str(bool(changes)).lower(),
        "code_package": hash_of_all(PACKAGE),
        "host": socket.gethostname(),
        "processor": hardware.processor(),
        "version_python": platform.python_version(),
        "version_evidence": __version__,
        **{f"version_{name}": _version(name) for name in ("torch", "mlflow")},
        "version_hydra": _version("hydra-core"),
    }


def _hash(path: Path) -> str:
    return hashlib.sha256(path.name.encode() + b"\0" + path.read_bytes() + b"\0").hexdigest()[:16]


def _texts(section: Any, key: str, is_own_class: bool = False) -> Iterator[tuple[str, str, bool]]:
    """Each text in a config, with its key, and whether a class of the user's is given it, or has it nested within."""
    if isinstance(section, Mapping):
        target = section.get("_target_")
        is_own_class = is_own_class or (isinstance(target, str) and is_own(target))
        for name, value in section.items():
            yield from _texts(value, f"{key}.{name}", is_own_class)
    elif isinstance(section, list):
        for number, value in enumerate(section):
            yield from _texts(value, f"{key}[{number}]", is_own_class)
    elif isinstance(section, str):
        yield key, section, is_own_class


def _version_of(package: str) -> str:
    """The version of an installed package, by the name that it is imported by."""
    names = metadata.packages_distributions().get(package, [package])
    return ", ".join(sorted({_version(name) for name in names}))


def _git(*arguments: str) -> str | None:
    if project.CHECKOUT is None:  # another project's repository may be around the environment
        return None
    command = ["git", "-C", str(project.CHECKOUT), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "unknown"
