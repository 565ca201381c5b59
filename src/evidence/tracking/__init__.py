"""Records runs in MLflow. Only this folder imports mlflow.

It does so when the first run is opened, since the import takes seconds.
"""

from evidence.tracking.calls import without_password
from evidence.tracking.params import flattened
from evidence.tracking.runs import (
    HEARTBEAT,
    MLflowRun,
    create_run,
    find_run,
    page,
    prepare,
    recorded,
    running,
)
from evidence.tracking.stores import NoStore, Store

__all__ = [
    "HEARTBEAT",
    "MLflowRun",
    "NoStore",
    "Store",
    "create_run",
    "find_run",
    "flattened",
    "page",
    "prepare",
    "recorded",
    "running",
    "without_password",
]
