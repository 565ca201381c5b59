"""Says what a field is to a run. A section declares it with the field: `device: Annotated[Device, Role.OUTSIDE]`."""

from enum import Enum

from evidence.config.schema.base import Section, subclasses

Path = tuple[str, ...]  # of a setting: ("trainer", "steps")


class Role(Enum):
    """What a setting is to its run.

    A setting without a role shapes the path of the parameters. It is part of every identity, and a param in MLflow.
    The role of a section is that of each of its settings that has no role of its own.
    """

    END = "how long training lasts and how its end is scored: part of the run's identity, not of the path's"
    FILES = "which files a run keeps besides its numbers: part of the run's identity, not of its cell's"
    LABEL = "what is shown and how often: a param, part of no identity"
    SOURCE = "names a record: a param where it is given; what the record holds is part of every identity"
    OUTSIDE = "where a run computes, who watches, what steers the command: no param, part of no identity"


def paths(section: type[Section], *roles: Role) -> frozenset[Path]:
    """The paths of the settings and sections with one of the roles, in any class that may read a section."""
    found: set[Path] = set()
    for name, field in section.model_fields.items():
        path = (field.alias or name,)
        if any(mark in roles for mark in field.metadata if isinstance(mark, Role)):
            found.add(path)
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            kinds = [field.annotation, *subclasses(field.annotation)]
            found |= {path + rest for kind in kinds for rest in paths(kind, *roles)}
    return frozenset(found)
