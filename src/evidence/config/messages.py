"""Writes one line for each thing a user can get wrong: the key, what it must be, the nearest match."""

import difflib
import itertools
import re
import sysconfig
import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from evidence.config.schema.base import replacement
from evidence.errors import UserError
from evidence.passwords import masked

Keys = tuple[str | int, ...]

PACKAGE = str(Path(__file__).parents[1])
TRACEBACK = "Traceback (most recent call last)"
LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})

_MUST_BE = {
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "none_required": "null",
    "list_type": "a list, such as [200,200]",
    "dict_type": "a section with keys of its own, such as {{}}",
    "model_type": "a section with keys of its own",
    "string_type": "text (a number is made text by quotes: \"'2024'\")",
    "string_too_short": "text, not empty",
    "greater_than_equal": "at least {ge}",
    "greater_than": "above {gt}",
    "less_than_equal": "at most {le}",
    "less_than": "below {lt}",
    "too_short": "a list of at least {min_length}",
    "too_long": "a list of at most {max_length}",
}


def nearest(word: str, choices: Iterable[str]) -> str | None:
    """The choice that `word` most likely means. None if no choice is near."""
    by_letters = {choice.lower(): choice for choice in choices}
    found = difflib.get_close_matches(word.lower(), by_letters, n=1)
    return by_letters[found[0]] if found else None


def unknown_key(key: str, config: Mapping[str, Any]) -> str:
    """The message about a key that is not in the config.

    It names the key that has replaced it, or else the nearest one and its siblings.
    """
    *sections, last = key.split(".")
    known, above = config, ""
    while sections and isinstance(known.get(sections[0]), Mapping):
        known, above = known[sections[0]], f"{above}{sections.pop(0)}."
    if key == "experiment":  # which is a group, and no key
        return without_package("experiment")
    if instead := replacement(known, last):
        return f"{key} is a key of an earlier version: write {instead}"
    siblings = {name: f"{above}{name}" for name in known}
    keys = [dotted(path) for path in _paths(config)]
    if key in keys and known[last] is None:  # Hydra's ~ takes null for missing
        can_be_deleted = "_target_" in known  # of a class, which may be another than the file's
        instead = f"write {key}=0 ~{key}" if can_be_deleted else "it has no value already"
        return f"{key}=null cannot be deleted so: {instead}"
    if key in keys:
        return f"{key} cannot be changed so: write {key}=value (or +{key}.name=value, if it holds keys of its own)"
    anywhere = {name.rpartition(".")[2]: name for name in reversed(keys)}
    if sections:
        match = nearest(key, keys)
    elif near_by := nearest(last, siblings):
        match = siblings[near_by]
    else:
        match = anywhere.get(last if above else nearest(last, anywhere) or "")
    hint = f": did you mean '{match}'?" if match else "."
    return f"unknown key '{key}'{hint} Keys: {', '.join(siblings.values())}"


def without_package(choice: str) -> str:
    """The message about a file of the group `experiment` whose keys are not those of the run."""
    return f"{choice}: its file must begin with the line '# @package _global_', so that its keys are those of the run"


def unknown_choice(group: str, choice: str, choices: Iterable[str]) -> str:
    """The message about an option that a config group does not have."""
    choices = sorted(choices)
    match = nearest(choice, choices)
    hint = f": did you mean '{group}={match}'?" if match else "."
    return f"unknown choice '{group}={choice}'{hint} Choices: {', '.join(choices) or 'none yet'}"


def invalid(error: ValidationError, config: dict[str, Any]) -> str:
    """The message about the first of a validation's errors. Unknown keys come before all others."""
    details = error.errors(include_url=False)
    unknown = [detail["loc"] for detail in details if detail["type"] == "extra_forbidden"]
    if unknown:  # other errors may follow from it
        return unknown_key(dotted(unknown[0]), _without(set(unknown), config))
    first, key = details[0], dotted(details[0]["loc"])
    if first["type"] == "missing":
        return f"{key}: needs a value"
    return f"{key}={shown(first['input'])}: {_requirement(first)}"


def dotted(path: Keys) -> str:
    """('model', 'latent', 0) -> 'model.latent[0]'."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


def shown(value: Any) -> str:
    """A value as one would type it, on one line of at most 60 characters."""
    if value is None or isinstance(value, bool):
        text = "null" if value is None else str(value).lower()
    elif isinstance(value, list):
        text = f"[{','.join(map(shown, value))}]"
    elif isinstance(value, dict):
        text = f"{{{','.join(f'{key}:{shown(item)}' for key, item in value.items())}}}"
    else:
        text = printable(masked(str(value)))  # before it is cut
    return text if len(text) <= 60 else f"{text[:57]}..."


def one_line(text: str) -> str:
    """The text with line breaks and other unprintable characters replaced."""
    return printable(" ".join(text.split()))


def printable(text: str) -> str:
    """The text with a question mark for each unprintable character, line breaks among them."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _requirement(detail: ErrorDetails) -> str:
    context = detail.get("ctx", {})
    match detail["type"]:
        case "value_error":
            return str(context["error"])
        case "literal_error":
            choices = re.findall(r"\w+", context["expected"].replace(" or ", " "))
            match = nearest(shown(detail["input"]), choices)
            hint = f" (did you mean '{match}'?)" if match else ""
            return f"must be {'one of ' if len(choices) > 1 else ''}{', '.join(choices)}{hint}"
        case "int_type" if isinstance(detail["input"], float) and detail["input"].is_integer():
            return f"must be a whole number: {detail['input']:.0f} (in a search: int(interval(...)))"
        case kind if kind in _MUST_BE:
            return f"must be {_MUST_BE[kind].format(**context)}"
        case _:
            return one_line(detail["msg"])


def _paths(config: Mapping[str, Any], above: Keys = ()) -> list[Keys]:
    """Every key of the config. The keys of a section come before those of its own sections."""
    below = [_paths(value, (*above, key)) for key, value in config.items() if isinstance(value, Mapping)]
    return [*((*above, key) for key in config), *itertools.chain(*below)]


def _without(unknown: set[Keys], config: Mapping[str, Any], above: Keys = ()) -> dict[str, Any]:
    return {
        key: _without(unknown, value, (*above, key)) if isinstance(value, Mapping) else value
        for key, value in config.items()
        if (*above, key) not in unknown
    }


def own_location(error: BaseException) -> tuple[str, int] | None:
    """The file and the innermost line in it of the user's that this package or a library called, if there is one."""
    if isinstance(error, SyntaxError) and error.filename:
        return error.filename, error.lineno or 0
    found, is_within = None, False
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename.startswith((PACKAGE, *LIBRARIES, "<")):
            is_within = True
        elif is_within:
            found = frame.filename, frame.lineno or 0
    return found


def describe(error: BaseException) -> str:
    """The error's message, with its type where the message alone may be unclear, and the line of a user's file."""
    said = error.msg if isinstance(error, SyntaxError) else str(error)
    if causes := re.findall(r"^[\w.]+: .+", said.partition(TRACEBACK)[2], re.MULTILINE):
        said = causes[-1]  # what a launcher tells of a job's process is a whole traceback
    said = " ".join(said.split())
    if isinstance(error, UserError):
        return said
    if not isinstance(error, ImportError | SyntaxError):
        said = f"{type(error).__name__}: {said}" if said else type(error).__name__
    if (place := own_location(error)) is None:
        return said
    file, line = place
    return f"{Path(file).name}: {said} (line {line})"
