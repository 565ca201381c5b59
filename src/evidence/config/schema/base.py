"""Defines what a section of a config is, and which class reads it, by the section's `_target_`.

A `Section` with a `_target_` of this package lists its keys: all are required, and no others are allowed. Any other
`_target_` is the user's own, and so are its other keys. A section states the traits that the checks need.
"""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, NamedTuple, TypeVar, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from evidence.config.schema.values import Target


class Section(BaseModel):
    """A group of keys. Each is required, no others are allowed, and each has exactly the type written."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Built(Section, extra="allow"):
    """A section with the arguments of a class or a function, which its `_target_` names.

    A subclass reads each `_target_` in the Literal that it declares for `built_by`, and forbids other keys. A
    subclass with a `prefix` reads all that begin with it and have no section of their own. `replaced` maps keys of
    earlier versions to what to write instead.
    """

    prefix: ClassVar[str] = ""
    replaced: ClassVar[Mapping[str, str]] = {}
    built_by: Target = Field(alias="_target_")


S = TypeVar("S", bound=Section)
B = TypeVar("B", bound=Built)


class Follows(NamedTuple):
    """Marks a setting that must equal the setting at `key`, by interpolation."""

    key: str


def subclasses(kind: type[S]) -> list[type[S]]:
    """All subclasses of a section, in the order of their definition."""
    return [found for cls in kind.__subclasses__() for found in (cls, *subclasses(cls))]


def section_of(kind: type[B], target: str) -> type[B]:
    """The subclass of `kind` that lists a `_target_`, or has its prefix; `kind` itself for the user's own."""
    found = subclasses(kind)
    listing = [cls for cls in found if target in get_args(cls.model_fields["built_by"].annotation)]
    beginning = [cls for cls in found if cls.prefix and target.startswith(cls.prefix)]
    return next(iter(listing + beginning), kind)


def by_target(kind: type[Built]) -> BeforeValidator:
    """Reads a section as the class that `section_of` finds by its `_target_`."""

    def read(section: Any) -> Built:
        target = section.get("_target_") if isinstance(section, dict) else None
        return section_of(kind, str(target)).model_validate(section)

    return BeforeValidator(read)


def replacement(section: Mapping[str, Any], key: str) -> str | None:
    """What to write instead of a key of an earlier version. None where the section never had such a key."""
    return section_of(Built, str(section.get("_target_"))).replaced.get(key)


def followers(section: Section, above: str = "") -> Iterator[tuple[str, Any, str]]:
    """For each setting marked `Follows`: its key, its value, and the key that it must equal."""
    for name, field in type(section).model_fields.items():
        key, value = f"{above}{field.alias or name}", getattr(section, name)
        yield from ((key, value, mark.key) for mark in field.metadata if isinstance(mark, Follows))
        if isinstance(value, Section):
            yield from followers(value, f"{key}.")
