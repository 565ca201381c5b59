"""The tags of MLflow that a run has: those that it sets itself, and the names that a user may choose."""

from typing import Annotated, Any

from pydantic import AfterValidator

# Entries of result.json that are tags too.
OF_RECORD = (
    "record",
    "train_identity",
    "run_identity",
    "cell_identity",
    "identity_version",
    "code_digest",
    "data_digest",
    "steps",
    "device",
    "parent",
    "init_from",
)
OWN = frozenset(
    {
        *OF_RECORD,
        "folder",
        "lock",
        "host",
        "heartbeat",
        "delivery",
        "undelivered",
        "sweep",
        "sweep_id",
        "sweep_parent",
        "mixed",
        "code",
        "code_package",
        "processor",
        "git_commit",
        "git_dirty",
        "version_python",
        "version_evidence",
        "version_torch",
        "version_mlflow",
        "version_hydra",
    }
)


def _tag_name(text: str) -> str:
    if text in OWN or text.startswith("mlflow."):
        raise ValueError("is a tag that a run sets itself: choose another name")
    if not text.replace("-", "_").isidentifier() or len(text) > 64:
        raise ValueError("must be a tag's name: letters, digits, - and _, at most 64")
    return text


def _tag_value(value: Any) -> Any:
    if not isinstance(value, str | int | float):
        raise ValueError("must be text, a number, or true or false")
    return value


TagName = Annotated[str, AfterValidator(_tag_name)]
TagValue = Annotated[Any, AfterValidator(_tag_value)]
