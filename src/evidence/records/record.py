"""Types result.json: a run's identity, state and numbers."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

OF_METRICS = "eval.metrics: "  # the beginning of a name in `code`, of what only eval.metrics uses
Status = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]


class Process(BaseModel):
    """The process that computes the run or was the last to do so, and since when."""

    host: str = ""
    pid: int = 0
    since: str = ""


class Sweep(BaseModel):
    """The sweep that a run was a job of: its id, the words that were typed, and when it began."""

    id: str = ""
    words: str = ""
    began: str = ""


class Record(BaseModel):
    """A run's record. An entry that an earlier version did not write has its default.

    record: a number of its own, in hexadecimal.
    path: the folder's path.
    began, ended: times in UTC. `began` is when the first process began it.
    mixed: what changed on the way, where not all was computed alike.
    parent: the name of the run whose checkpoint this one continued.
    execution: threads, hardware and compiling.
    content: a hash by key of all that no checksum pins.
    image_shape: the height and the width of an image.
    metrics: the final numbers, in nats per image where they are bounds.
    passes: over the training images. tags: the user's. sweep: the last one that had the run among its jobs.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    record: str = ""
    path: str = ""
    status: Status = "KILLED"
    process: Process = Process()
    began: str | None = None
    ended: str | None = None
    error: str | None = None

    identity_version: int = 1
    train_identity: str = ""
    run_identity: str = ""
    cell_identity: str = ""
    train_cell: str = ""
    settings_identity: str = ""
    content: dict[str, str] = {}

    run: str = ""
    folder: str = ""
    device: str = ""
    precision: str = "float32"
    eval_samples: int = 0
    eval_images: int = 0
    steps: int = 0
    passes: float = 0.0
    tags: dict[str, str] = {}
    sweep: Sweep | None = None
    init_from: str | None = None
    mixed: list[str] = []
    parent: str | None = None
    execution: dict[str, Any] = {}

    data: dict[str, Any] = {}
    image_shape: list[int] = []
    data_digest: str = ""
    code: dict[str, str] = {}
    code_digest: str = ""
    provenance: dict[str, str] = {}
    mlflow_run_id: str | None = None
    metrics: dict[str, float] = {}

    @property
    def training_code(self) -> dict[str, str]:
        """The code that has trained the model."""
        return training_code(self.code)


def training_code(code: Mapping[str, str]) -> dict[str, str]:
    """The part of a run's code that its training depends on: all but its metrics'."""
    return {name: value for name, value in code.items() if not name.startswith(OF_METRICS)}
