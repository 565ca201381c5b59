"""Runs as a DataFrame, from MLflow.

>>> from evidence import report
>>> runs = report.runs("iwae_table1")
"""

from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from evidence import tracking

ROOT = (
    Path(__file__).resolve().parents[3]
)  # of the checkout, where the store and the runs' folders are by default
NUMBERS = ("k", "seed", "batch_size", "latent_dim", "eval_samples", "eval_images")


def runs(experiment: str | None = None, uri: str | None = None) -> pd.DataFrame:
    """A row for each run of an experiment, or of all of them, the latest first.

    Columns: `run` (its name), `experiment`, `status`, `run_id`, `url` (of its page, where the store is a server),
    `date`, the params (objective, variant, k, model, data, seed, stages ...), the metrics by their names
    (`test/nll`, `test/active_units` ...: nats per image, lower is better), and the tags (folder, git_commit ...).
    The store is `uri`, or MLFLOW_TRACKING_URI, or mlflow.db in the checkout.

    Raises: UserError where the store cannot be read.
    """
    rows = []
    for name, found in tracking.recorded(uri, ROOT, experiment):
        info = found.info
        rows.append(
            {
                "run": info.run_name,
                "experiment": name,
                "status": info.status,
                "run_id": info.run_id,
                "url": tracking.page(uri, found),
                "date": datetime.fromtimestamp(info.start_time / 1000, UTC).date().isoformat(),
                **{key: value for key, value in found.data.tags.items() if not key.startswith("mlflow.")},
                **found.data.params,
                **found.data.metrics,
            }
        )
    frame = pd.DataFrame(rows)
    for name in NUMBERS:
        if name in frame:
            frame[name] = pd.to_numeric(frame[name]).astype("Int64")
    return frame


def finished(experiment: str, uri: str | None = None) -> pd.DataFrame:
    """The finished runs of an experiment; without columns where there are none."""
    found = runs(experiment, uri)
    return found[found["status"] == "FINISHED"] if len(found) else found
