"""Writes a trained model in MLflow's form, from the record's folder alone.

The file has the settings and the parameters, and the name of the function that makes a model of them. So writing it
builds no model, imports nothing of the user's, and takes milliseconds. Opening it needs this package.
"""

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import yaml

from evidence import __version__
from evidence.errors import UserError
from evidence.passwords import masked_values
from evidence.records.damage import left_out
from evidence.records.directory import RunDirectory
from evidence.records.identity import VERSION
from evidence.records.lineage import end
from evidence.records.record import Record
from evidence.tracking.calls import StoreRefused

FOLDER = "model"  # among a run's artifacts: mlflow.pytorch.load_model("runs:/<run id>/model")
MODEL = f"{FOLDER}/data/model.pth"
OPENED_BY = ("evidence.trained.loading", "rebuilt")  # by name, since that folder is above this one


@contextlib.contextmanager
def written(directory: RunDirectory, record: Record) -> Iterator[list[tuple[Path, str]]]:
    """Yield the files of a finished run's model, and their folders among the artifacts.

    They are gone after the block. There are none of a run that has not finished, is of an earlier version, or whose
    last checkpoint cannot be read.
    Raises: StoreRefused where they cannot be written.
    """
    state: dict[str, Any] = {}
    if record.status == "FINISHED" and record.identity_version == VERSION:
        with contextlib.suppress(UserError), left_out(directory.folder):
            state = end(directory).state
    with tempfile.TemporaryDirectory() as folder:
        try:
            files = list(_write(Path(folder), directory.settings, state, record)) if state else []
        except OSError as error:
            raise StoreRefused(f"the model cannot be written ({error.strerror})") from error
        yield files


def _write(
    folder: Path, settings: dict[str, Any], state: dict[str, Any], record: Record
) -> Iterator[tuple[Path, str]]:
    data, about, needed = folder / "model.pth", folder / "MLmodel", folder / "requirements.txt"
    kind = folder / "pickle_module_info.txt"
    call = _Call(_opener(), masked_values(settings), state["model"], state.get("mean_pixels"))
    torch.save(call, data)
    kind.write_text("mlflow.pytorch.pickle_module")
    packages = [f"evidence-vi=={__version__}", f"torch=={torch.__version__}"]
    needed.write_text("\n".join(packages) + "\n")
    flavor = {"model_data": "data", "pytorch_version": str(torch.__version__)}
    described = {
        "artifact_path": FOLDER,
        "flavors": {"pytorch": flavor},
        "mlflow_version": version("mlflow"),
        "model_size_bytes": data.stat().st_size,
        "model_uuid": record.record,
        "run_id": record.mlflow_run_id,
        "utc_time_created": record.ended,
    }
    about.write_text(yaml.safe_dump(described))
    yield from ((about, FOLDER), (needed, FOLDER), (data, f"{FOLDER}/data"), (kind, f"{FOLDER}/data"))


class _Call:
    """Is pickled as a call: opening the file calls the function with the arguments."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self._call


def _opener() -> Callable[..., Any]:
    module, name = OPENED_BY
    found: Callable[..., Any] = getattr(import_module(module), name)
    return found
