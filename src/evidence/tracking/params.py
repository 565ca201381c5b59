"""Turns a run's settings and names into what MLflow takes, within its limits for keys and values."""

import hashlib
import json
import posixpath
import re
from collections.abc import Iterator, Mapping
from typing import Any

from evidence.config.schema.roles import Path, Role, paths
from evidence.config.settings import Settings
from evidence.passwords import masked_values

LEFT_OUT, SOURCE = paths(Settings, Role.OUTSIDE), paths(Settings, Role.SOURCE)
LONGEST_KEY, LONGEST_VALUE = 250, 500  # characters; MLflow takes 250 and 6000
LONGEST_TAG = 5000  # MLflow takes 8000, and took 5000; a path has at most 4096 bytes
DIGEST = 16  # hexadecimal digits


def flattened(config: Mapping[str, Any]) -> dict[str, str]:
    """Every setting that may distinguish two runs: {"k": "5", "trainer.learning_rate": "0.001", ...}.

    A text is unchanged. Everything else is JSON. If MLflow refuses a key, underscores replace the refused
    characters, and the key ends in a digest of the whole key.
    """
    return {_key(path): shortened(_text(value)) for path, value in _leaves(config, ())}


def shortened(text: str, longest: int = LONGEST_VALUE) -> str:
    """The text, cut to at most `longest` characters. A digest of the whole text replaces what is cut off.

    A character that no database takes is escaped: NUL, and a byte of a file's name that is no text.
    """
    text = text.encode(errors="backslashreplace").decode().replace("\0", "\\x00")
    if len(text) <= longest:
        return text
    end = f"... {_digest(text)}"
    return text[: longest - len(end)] + end


def metric_name(name: str) -> str:
    """The metric's name in MLflow. Where MLflow refuses it, underscores replace characters, and a digest follows.

    MLflow takes what could be a path: "train/elbo", and neither "train/100%" nor "train//elbo".
    """
    is_path = posixpath.normpath(name) == name and not name.startswith(("/", ".."))
    if is_path and name != "." and re.fullmatch(r"[\w\-. :/]+", name) and len(name) <= LONGEST_KEY:
        return name
    plain = "/".join(re.sub(r"[^\w-]", "_", part) for part in name.split("/") if part.strip("."))
    return f"{plain.strip('/')[: LONGEST_KEY - DIGEST - 1]}-{_digest(name)}"


def _leaves(section: Mapping[str, Any], above: Path) -> Iterator[tuple[Path, Any]]:
    for name, value in section.items():
        path = (*above, str(name))
        if path in LEFT_OUT or (path in SOURCE and value is None):
            continue
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, path)
        else:
            yield path, value


def _key(path: Path) -> str:
    """The parts joined by dots. A part that has a dot itself is refused, since it could be two parts."""
    key = ".".join(path)
    if len(key) <= LONGEST_KEY and all(re.fullmatch(r"[\w-]+", part) for part in path):
        return key
    plain = ".".join(re.sub(r"[^\w-]", "_", part) or "_" for part in path)
    return f"{plain[: LONGEST_KEY - DIGEST - 1]}-{_digest(json.dumps(path))}"


def _text(value: Any) -> str:
    safe = masked_values(value)
    return safe if isinstance(safe, str) else json.dumps(safe, ensure_ascii=False, default=repr)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()[:DIGEST]
