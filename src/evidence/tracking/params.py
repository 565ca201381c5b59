"""A run's settings as MLflow's params, within the limits that MLflow sets to keys and values."""

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
    """Every setting that may tell two runs apart: {"k": "5", "trainer.learning_rate": "0.001", ...}.

    A text stands as it is, everything else as JSON. A key that MLflow refuses has underscores for the characters
    that it has against, and ends in a digest of the whole key.
    """
    return {_key(path): shortened(_text(value)) for path, value in _leaves(config, ())}


def shortened(text: str) -> str:
    """At most LONGEST_VALUE characters; what is cut off is replaced by a digest of the whole text."""
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
    """The parts joined by dots; a part with a dot of its own counts as refused, since it might be two."""
    key = ".".join(path)
    if len(key) <= LONGEST_KEY and all(re.fullmatch(r"[\w-]+", part) for part in path):
        return key
    plain = ".".join(re.sub(r"[^\w-]", "_", part) or "_" for part in path)
    return f"{plain[: LONGEST_KEY - DIGEST - 1]}-{_digest(json.dumps(path))}"


def _text(value: Any) -> str:
    if isinstance(value, str):
        return without_password(value)
    return json.dumps(_without_passwords(value), ensure_ascii=False, default=repr)


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
