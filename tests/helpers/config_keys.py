"""What conf/ and its sections say of each key of a config: where it stands, its value, and what it may be."""

import functools
import itertools
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from omegaconf import OmegaConf
from pydantic import AfterValidator, BaseModel
from pydantic.fields import FieldInfo

from evidence.config import compose
from evidence.errors import UserError

Argv = tuple[str, ...]

BOUNDS = ("ge", "gt", "le", "lt", "min_length")
EITHER = (Union, type(int | None))  # Optional[X] and X | None


class Key(NamedTuple):
    """A key of a composed config: where it stands, its value, and what it may be."""

    path: str
    above: Argv  # the overrides that bring it
    value: Any
    follows: bool  # another key, by interpolation
    types: frozenset[type]
    choices: tuple[Any, ...]
    bounds: Mapping[str, float]  # of BOUNDS
    has_rules: bool  # beyond types and bounds: a name or a folder
    frame: str  # how a value is written: {}, or inside of lists

    def set(self, text: str, prefix: str = "") -> Argv:
        """The override that sets the key, or the innermost value of its lists."""
        return (*self.above, f"{prefix}{self.path}={self.frame.replace('{}', text, 1)}")


class Catalogue(NamedTuple):
    """Every key that some choice brings, and the groups with their options."""

    keys: tuple[Key, ...]
    groups: Mapping[str, tuple[str, ...]]
    semi_implicit: frozenset[str]  # the objectives that bring this model, and need it

    def leaves(self, *types: type) -> list[Key]:
        """The keys with values of these types."""
        return [key for key in self.keys if key.types & {*types}]


@functools.cache
def read(conf: Path) -> Catalogue:
    """The keys of the plain config, and of each single choice that goes with it."""
    files = sorted(path.relative_to(conf) for path in conf.glob("*/**/*.yaml"))
    groups: dict[str, tuple[str, ...]] = {}
    for file in files:
        groups[str(file.parent)] = (*groups.get(str(file.parent), ()), file.stem)
    found: dict[tuple[type, str], Key] = {}
    plain = [file for file in files if file.parent.name != "experiment" and file.parts[0] != "hydra"]
    for above in [(), *(_chosen(conf, file) for file in plain)]:
        arguments, _ = compose.read_arguments(list(above))
        config = compose.compose(conf, arguments)
        try:
            settings = compose.settings(config)
        except UserError:  # this choice needs another beside it
            continue
        raw = OmegaConf.to_container(config)
        for section, key in _keys(settings, above, raw):
            found.setdefault((section, key.path + key.frame), key)
    semi_implicit = {
        file.stem for file in plain if "/model: semi_implicit" in (conf / file).read_text(encoding="utf-8")
    }
    return Catalogue(tuple(found.values()), groups, frozenset(semi_implicit))


def _chosen(conf: Path, file: Path) -> Argv:
    """The overrides that choose a file; of a group below another, with the choice of that which brings it."""
    group = file.parent
    bringing = [] if group.parent == Path(".") else sorted((conf / group.parent).glob("*.yaml"))
    above = [path for path in bringing if f"/{group}: " in path.read_text(encoding="utf-8")]
    return (*(f"{group.parent}={path.stem}" for path in above), f"{group}={file.stem}")


def _keys(section: BaseModel, above: Argv, raw: Any, path: str = "") -> Iterator[tuple[type, Key]]:
    for name, field in type(section).model_fields.items():
        value, key = getattr(section, name), field.alias or name
        if isinstance(value, BaseModel):
            if path:  # else a group, chosen and not set
                yield (
                    type(section),
                    Key(path + key, above, None, False, frozenset({dict}), (), {}, False, "{}"),
                )
            yield from _keys(value, above, raw[key], f"{path}{key}.")
            continue
        follows = bool(re.fullmatch(r"\$\{[a-z_.]+\}", str(raw[key])))
        kind, frame = Annotated[(field.annotation, *field.metadata, None)], "{}"  # type: ignore[misc]
        while True:
            types, choices, constraints = _allowed(kind)
            bounds = {name: getattr(c, name) for c in constraints for name in BOUNDS if hasattr(c, name)}
            has_rules = any(isinstance(constraint, AfterValidator) for constraint in constraints)
            yield (
                type(section),
                Key(path + key, above, value, follows, types, choices, bounds, has_rules, frame),
            )
            if list not in types or not value:
                break
            rest = "".join(f",{json.dumps(item)}" for item in value[1:])
            value, frame, kind = value[0], frame.replace("{}", f"[{{}}{rest}]"), _element(kind)


def _allowed(kind: Any) -> tuple[frozenset[type], tuple[Any, ...], tuple[Any, ...]]:
    """The plain types that an annotation allows, its literal choices, and its constraints."""
    if get_origin(kind) is Annotated:
        inner, *metadata = get_args(kind)
        types, choices, constraints = _allowed(inner)
        own = itertools.chain(*(m.metadata if isinstance(m, FieldInfo) else [m] for m in metadata))
        return types, choices, (*constraints, *own)
    if get_origin(kind) is Literal:
        return frozenset(map(type, get_args(kind))), get_args(kind), ()
    if get_origin(kind) in EITHER:
        parts = [_allowed(part) for part in get_args(kind)]
        return (
            frozenset().union(*(part[0] for part in parts)),
            tuple(itertools.chain(*(part[1] for part in parts))),
            tuple(itertools.chain(*(part[2] for part in parts))),
        )
    plain = get_origin(kind) or kind
    return frozenset({int, float} if plain is float else {plain}), (), ()


def _element(kind: Any) -> Any:
    while get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    return get_args(kind)[0]
