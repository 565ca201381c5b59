"""Reads runs from MLflow as a DataFrame.

>>> from evidence import report
>>> runs = report.runs("iwae_table1")
"""

from datetime import UTC, datetime

import pandas as pd

from evidence import project, tracking

NUMBERS = ("k", "seed", "batch_size", "latent_dim", "eval_samples", "eval_images", "steps")


def runs(experiment: str | None = None, uri: str | None = None) -> pd.DataFrame:
    """A row for each run of an experiment, or of all of them, the latest first.

    Columns: `run` (its name), `experiment`, `status`, `run_id`, `url` (of its page, where the store is a server),
    `date` (of its start), `ended` (to the millisecond; missing while it runs). The params are columns: objective,
    variant, k, model, data, seed, stages ..., and every setting by its dotted key, such as `trainer.learning_rate`.
    So are the metrics by their names, such as `test/nll` (nats per image, lower is better), and the tags (folder,
    git_commit ...). The store is `uri`, or MLFLOW_TRACKING_URI, or mlflow.db in the root (evidence.project).

    Raises: UserError where there is no store, or where it cannot be read. Reading makes none.
    """
    rows = []
    for name, found in tracking.recorded(uri, project.root(), experiment):
        info = found.info
        is_over = info.status != "RUNNING" and info.end_time is not None
        about = {
            "run": info.run_name,
            "experiment": name,
            "status": info.status,
            "run_id": info.run_id,
            "url": tracking.page(uri, found),
            "date": _time(info.start_time).date().isoformat(),
            "ended": _time(info.end_time).isoformat(timespec="milliseconds") if is_over else None,
        }
        tags = {key: value for key, value in found.data.tags.items() if not key.startswith("mlflow.")}
        rows.append({**about, **tags, **found.data.params, **found.data.metrics, **about})
    frame = pd.DataFrame(rows)
    for name in NUMBERS:
        if name in frame:
            frame[name] = pd.array([_whole(value) for value in frame[name]], dtype="Int64")
    return frame


def finished(experiment: str) -> pd.DataFrame:
    """The finished runs of an experiment that this program made. Without columns where there are none."""
    try:
        found = runs(experiment)
    except tracking.NoStore:
        return pd.DataFrame()
    if "record" not in found:
        return pd.DataFrame()
    return found[(found["status"] == "FINISHED") & found["record"].notna()]


def _time(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def _whole(text: object) -> int | None:
    """The whole number, or None where the text is none, such as the `k` of a run that another program has logged."""
    try:
        return int(str(text))
    except ValueError:
        return None
