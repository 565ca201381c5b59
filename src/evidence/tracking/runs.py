"""Makes, finds, describes, closes and lists runs in an MLflow store.

There is one client and one run id, and no global state.
"""

import math
import os
import textwrap
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from evidence.errors import UserError
from evidence.tracking import addresses
from evidence.tracking.calls import store_errors
from evidence.tracking.params import LONGEST_TAG, shortened
from evidence.tracking.stores import Store, connect, experiments, reader

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput, Run

BATCH, PARAMS_BATCH = 1000, 100  # metrics and params that MLflow takes in one call
START = datetime(1970, 1, 1, tzinfo=UTC)
HEARTBEAT = "heartbeat"  # the tag with the time, in seconds since 1970, of a process's last sign of life
SWEEP = "sweep_parent"  # the tag with the id of a sweep, of the sweep's own run
OURS = {"record", "host", "lock", HEARTBEAT}  # the tags that a record's run has from the first moment

Status = Literal["FINISHED", "FAILED", "KILLED"]


class MLflowRun:
    """One run in an MLflow store. Every method raises UserError if the store fails.

    It is StoreRefused if the store does not take what it is sent.
    """

    def __init__(self, client: "MlflowClient", run: "Run", uri: str) -> None:
        self.run_id: str = run.info.run_id
        self.status: str = run.info.status
        self.tags: dict[str, str] = run.data.tags
        self._client, self._uri, self._experiment_id = client, uri, run.info.experiment_id
        self._started, self._ended = run.info.start_time, run.info.end_time
        self._params = set(run.data.params)

    def last_steps(self) -> dict[str, int]:
        """The last step of each metric that the store has."""
        with store_errors(self._uri):
            names = self._client.get_run(self.run_id).data.metrics
            return {
                name: max(metric.step for metric in self._client.get_metric_history(self.run_id, name))
                for name in names
            }

    def log(self, rows: Sequence[tuple[str, float, int]], ended: datetime | None = None) -> None:
        """Log metrics as (name, value, step), at the time now, or at the run's end if that was earlier.

        MLflow stores an infinity as 1.8e308, so it is logged as NaN.
        """
        from mlflow.entities import Metric

        at = _now() if ended is None else min(_now(), self._end(ended))
        metrics = [
            Metric(name, value if math.isfinite(value) else math.nan, at, step) for name, value, step in rows
        ]
        names = textwrap.shorten(", ".join({metric.key: 0 for metric in metrics}), 100, placeholder=" ...")
        with store_errors(self._uri, names):
            for start in range(0, len(metrics), BATCH):
                self._client.log_batch(self.run_id, metrics=metrics[start : start + BATCH])

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """Copy the file to the run's artifacts, below `folder`."""
        with store_errors(self._uri, path.name):
            self._client.log_artifact(self.run_id, str(path), folder)

    def add_dataset(self, dataset: "DatasetInput") -> None:
        """Log the data set as an input. One of this name and digest is logged once."""
        from mlflow.exceptions import MlflowException

        with store_errors(self._uri, "the data set"):
            try:
                self._client.log_inputs(self.run_id, [dataset])
            except MlflowException:  # another process may just have logged it for the first time
                self._client.log_inputs(self.run_id, [dataset])

    def add_params(self, params: dict[str, str | int | float]) -> None:
        """Log the params that are not there yet. They cannot be changed later."""
        from mlflow.entities import Param

        new = [Param(key, shortened(str(value))) for key, value in params.items() if key not in self._params]
        with store_errors(self._uri, "the params"):
            for start in range(0, len(new), PARAMS_BATCH):
                self._client.log_batch(self.run_id, params=new[start : start + PARAMS_BATCH])
        self._params |= params.keys()

    def set_tags(self, tags: dict[str, str]) -> None:
        """Set tags, over older values."""
        from mlflow.entities import RunTag

        with store_errors(self._uri, "the tags"):
            self._client.log_batch(self.run_id, tags=[RunTag(*each) for each in _tags(tags).items()])
        self.tags |= tags

    def resume(self) -> None:
        """Set the status to RUNNING."""
        with store_errors(self._uri):
            self._client.update_run(self.run_id, status="RUNNING")

    def heartbeat(self) -> None:
        """Note that the run's process is alive."""
        with store_errors(self._uri):
            self._client.set_tag(self.run_id, HEARTBEAT, str(time.time()))

    def close(self, status: Status, ended: datetime | None = None) -> None:
        """Set the run's final status and its end, which is now if `ended` is not given."""
        end = max(_now(), self._started) if ended is None else self._end(ended)
        with store_errors(self._uri):
            self._client.set_terminated(self.run_id, status, end_time=end)
            self.status, self._ended = status, end

    def end_no_earlier(self, moment: datetime) -> None:
        """Set the status to FINISHED, and the end to `moment` if it was earlier."""
        if self.status != "FINISHED" or self._ended is None or self._ended < self._end(moment):
            self.close("FINISHED", moment)

    def sibling(self, tag: str, value: str) -> "MLflowRun | None":
        """A run of the same experiment with this tag."""
        with store_errors(self._uri):
            return _tagged(self._client, self._experiment_id, self._uri, tag, value)

    def make_sibling(self, name: str, tags: dict[str, str], began: datetime) -> "MLflowRun":
        """Make another run in the same experiment."""
        with store_errors(self._uri):
            made = self._client.create_run(self._experiment_id, _milliseconds(began), _tags(tags), name)
            return MLflowRun(self._client, made, self._uri)

    def is_closed(self, status: str, ended: datetime | None) -> bool:
        """Whether the store has this status, and this end if it is known."""
        return self.status == status and (ended is None or self._ended == self._end(ended))

    def _end(self, ended: datetime) -> int:
        """The end in milliseconds since 1970. It is never before the start, even if a clock was set back."""
        return max(_milliseconds(ended), self._started)


def prepare(store: Store) -> None:
    """Make the store and the experiment if they are missing, under a lock.

    Raises: UserError where the store cannot be reached or used.
    """
    connect(store)


def find_run(store: Store, record: str) -> MLflowRun | None:
    """The experiment's run with this record's number in its tag `record`. Raises: UserError as `prepare` does."""
    client, experiment_id, uri = connect(store)
    with store_errors(uri):
        return _tagged(client, experiment_id, uri, "record", record)


def create_run(store: Store, name: str, tags: dict[str, str], began: datetime | None = None) -> MLflowRun:
    """Make a run in the experiment. It has its tags, `record` among them, from the first moment."""
    client, experiment_id, uri = connect(store)
    start = _now() if began is None else _milliseconds(began)
    with store_errors(uri):
        return MLflowRun(client, client.create_run(experiment_id, start, _tags(tags), name), uri)


def running(store: Store) -> list[MLflowRun]:
    """The runs of records in the store that are RUNNING, in any experiment."""
    client, _, uri = connect(store)
    with store_errors(uri):
        everywhere = [experiment.experiment_id for experiment in experiments(client)]
        found = client.search_runs(everywhere, "attributes.status = 'RUNNING' and tags.record LIKE '%'")
        return [MLflowRun(client, run, uri) for run in found if run.data.tags.keys() >= OURS]


def _tagged(client: "MlflowClient", experiment_id: str, uri: str, tag: str, value: str) -> MLflowRun | None:
    found = client.search_runs([experiment_id], f"tags.{tag} = '{value}'")
    return MLflowRun(client, found[0], uri) if found else None


def recorded(uri: str | None, root: Path, experiment: str | None) -> list[tuple[str, "Run"]]:
    """Every run of an experiment, or of all experiments, with the experiment's name, but those of sweeps.

    Raises: NoStore where there is no store; UserError where it cannot be read.
    """
    client, uri = reader(root, uri)
    found: list[Run] = []
    with store_errors(uri):
        names = {each.experiment_id: each.name for each in experiments(client)}
        wanted, token = [number for number, name in names.items() if experiment in (None, name)], None
        while wanted:
            runs = client.search_runs(wanted, page_token=token)
            found, token = [*found, *runs], runs.token
            wanted = wanted if token else []
    return [(names[run.info.experiment_id], run) for run in found if SWEEP not in run.data.tags]


def tags(root: Path, run_id: str) -> dict[str, str]:
    """The tags of the run with this id.

    Raises: NoStore where there is no store; UserError where it cannot be read, or has no such run.
    """
    from mlflow.exceptions import MlflowException

    client, uri = reader(root)
    with store_errors(uri):
        try:
            return dict(client.get_run(run_id).data.tags)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            raise UserError(f"the MLflow store {uri} has no run {run_id}") from None


def history(root: Path, run_id: str, name: str) -> list[tuple[int, float]]:
    """The step and value of each entry of a run's metric, in the order of the steps; UserError as `tags` raises."""
    client, uri = reader(root)
    with store_errors(uri):
        return sorted((each.step, each.value) for each in client.get_metric_history(run_id, name))


def download(root: Path, run_id: str, artifacts: Sequence[str], folder: Path) -> dict[str, Path] | None:
    """Copy artifacts of a run into a folder. Return where they are, or None where the run lacks one of them.

    Raises: NoStore where there is no store; UserError where it cannot be read.
    """
    client, uri = reader(root)
    found = {}
    with store_errors(uri):
        for path in artifacts:
            above = os.path.dirname(path) or None
            if path not in {each.path for each in client.list_artifacts(run_id, above)}:
                return None
            found[path] = Path(client.download_artifacts(run_id, path, str(folder)))
    return found


def page(uri: str | None, run: "Run") -> str | None:
    """The address of a run's page. None if the store is no server."""
    server, info = addresses.server(uri or os.environ.get("MLFLOW_TRACKING_URI")), run.info
    return server and f"{server}/#/experiments/{info.experiment_id}/runs/{info.run_id}"


def _tags(tags: dict[str, str]) -> dict[str, str]:
    return {key: shortened(value, LONGEST_TAG) for key, value in tags.items()}


def _milliseconds(moment: datetime) -> int:
    return (moment - START) // timedelta(milliseconds=1)


def _now() -> int:
    return int(1000 * time.time())
