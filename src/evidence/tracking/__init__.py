"""Records runs in MLflow. Only this folder imports mlflow.

It does so when the first run is opened, since the import takes seconds.
"""

from evidence.tracking.calls import StoreRefused, StoreUnavailable
from evidence.tracking.params import flattened, metric_name
from evidence.tracking.runs import (
    HEARTBEAT,
    MLflowRun,
    create_run,
    download,
    find_run,
    history,
    page,
    prepare,
    recorded,
    running,
    tags,
)
from evidence.tracking.stores import NoStore, Store

__all__ = [
    "HEARTBEAT",
    "MLflowRun",
    "NoStore",
    "Store",
    "StoreRefused",
    "StoreUnavailable",
    "create_run",
    "download",
    "find_run",
    "flattened",
    "history",
    "metric_name",
    "page",
    "prepare",
    "recorded",
    "running",
    "tags",
]
