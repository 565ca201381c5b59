"""Turns a run's settings into MLflow's params, within MLflow's limits for keys and values."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from evidence.config.schema.roles import Path, Role, paths
from evidence.config.settings import Settings
from evidence.tracking.calls import without_password

LEFT_OUT, SOURCE = paths(Settings, Role.OUTSIDE), paths(Settings, Role.SOURCE)
LONGEST_KEY, LONGEST_VALUE = 250, 500  # characters; MLflow takes 250 and 6000
DIGEST = 16  # hexadecimal digits


def flattened(config: Mapping[str, Any]) -> dict[str, str]:
    """Every setting that may distinguish two runs: {"k": "5", "trainer.learning_rate": "0.001", ...}.

    A text is unchanged. Everything else is JSON. If MLflow refuses a key, underscores replace the refused
    characters, and the key ends in a digest of the whole key.
    """
    return {_key(path): shortened(_text(value)) for path, value in _leaves(config, ())}


def shortened(text: str) -> str:
    """The text, cut to at most LONGEST_VALUE characters. A digest of the whole text replaces what is cut off."""
    if len(text) <= LONGEST_VALUE:
        return text
    end = f"... {_digest(text)}"
    return text[: LONGEST_VALUE - len(end)] + end


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
    safe = _without_passwords(value)
    return safe if isinstance(safe, str) else json.dumps(safe, ensure_ascii=False, default=repr)


def _without_passwords(value: Any) -> Any:
    if isinstance(value, str):
        return without_password(value)
    if isinstance(value, Mapping):
        return {str(name): _without_passwords(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_passwords(each) for each in value]
    return value


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:DIGEST]
