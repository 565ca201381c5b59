"""Says what is wrong with how a word of the command line is typed, and repeats values as they were typed."""

import re
from collections.abc import Iterable

from hydra.core.override_parser.types import Override

from evidence.config.messages import one_line, shown

CLOSING = {"[": "]", "{": "}", "(": ")"}
QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
BAD_IN_KEY = re.compile(r"[^\w@./+~-]", re.ASCII)
BAD_IN_VALUE = re.compile(r"[^\w/\\+.$%*@?|:, \[\](){}-]", re.ASCII)  # where it stands without quotes


def quoted(text: str) -> str:
    """The text in quotes, as Hydra reads it."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def unreadable(line: str) -> str:
    """The message about a word that Hydra cannot parse. It names the character that is to blame."""
    key, _, value = line.partition("=")
    said = f"cannot read '{one_line(line)}': write key=value"
    if not key or not value:
        return said
    if found := BAD_IN_KEY.search(key):
        return f"{said}; a key has no {_name(found[0])}"
    bare = QUOTED.sub("", value)
    for opening, closing in CLOSING.items():
        if bare.count(opening) != bare.count(closing):
            wrong = opening if opening in bare else closing
            return f"{said}; a value with a single {_name(wrong)} in it {_quoted(key, value)}"
    if found := BAD_IN_VALUE.search(bare) or re.search(r"[\[({]", bare):
        return f"{said}; a value with {_name(found[0])} in it {_quoted(key, value)}"
    return said


def as_typed(message: str, overrides: Iterable[Override]) -> str:
    """The message with the numbers in it as they were typed, such as 123E456, which is read as inf."""
    for override in overrides:
        if override.is_delete() or override.is_sweep_override():
            continue
        key, value = override.key_or_group, override.value()
        typed = str(override.input_line).partition("=")[2].strip()
        if value is None or isinstance(value, int | float):
            read = re.compile(rf"(?<![\w.]){re.escape(f'{key}={shown(value)}')}(?![\w.])")
            message = read.sub(f"{key}={typed}".replace("\\", r"\\"), message)
    return message


def _name(character: str) -> str:
    return f"'{character}'" if character.isprintable() else f"U+{ord(character):04X}"


def _quoted(key: str, value: str) -> str:
    """How to type the value in quotes, if they are not in it, and the word fits into a line."""
    inner, outer = ('"', "'") if "'" in value else ("'", '"')
    is_simple = value.isprintable() and len(value) <= 60 and not {inner, outer} <= {*value}
    example = f": {outer}{key}={inner}{value}{inner}{outer}" if is_simple and outer not in value else ""
    return f"goes in quotes, which the shell must leave alone{example}"
