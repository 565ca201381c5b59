"""Keeps passwords out of the files that Hydra and its launchers write about a sweep.

Hydra writes multirun.yaml, and submitit the overrides of each job. In these the address of the store is a reference
to the environment, which jobs inherit.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from evidence.errors import UserError
from evidence.passwords import masked

KEY, VARIABLE = "tracking.uri", "MLFLOW_TRACKING_URI"
INSTEAD = (
    "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or the whole address as MLFLOW_TRACKING_URI"
)


def has_password(text: str | None) -> bool:
    """Whether an address in the text has a user or a password."""
    return text is not None and masked(text) != text


def check(uris: Iterable[str | None]) -> None:
    """Raise UserError where the jobs of a sweep have several addresses, and one has a password."""
    different = set(uris)
    if len(different) > 1 and any(map(has_password, different)):
        raise UserError(f"{KEY}: a sweep over several addresses takes no password in them: {INSTEAD}")


def override(uri: str | None) -> list[str]:
    """An override for Hydra that reads the address in the environment, where it is put if it has a password."""
    if uri is None or not has_password(uri):
        return []
    os.environ[VARIABLE] = uri
    return [f"{KEY}='${{oc.env:{VARIABLE}}}'"]


def mask(file: Path) -> None:
    """Take the passwords in other addresses, which jobs need until the sweep has ended, out of a file of Hydra's."""
    if file.exists():
        file.write_text(masked(file.read_text(encoding="utf-8")), encoding="utf-8")
