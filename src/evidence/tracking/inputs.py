"""Describes the data set of a run as MLflow has it."""

from typing import NamedTuple


class Input(NamedTuple):
    """A data set as MLflow has it. `source` and `profile` are JSON, `tags` say how the run uses it."""

    name: str
    digest: str
    source: str
    profile: str
    tags: dict[str, str]
