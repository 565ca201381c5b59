"""What runs leave behind, in their folders and in the MLflow store, and in what two of them differ.

The store is read by SQL and the tables by hand, so that nothing here trusts the code that wrote them.
"""

import contextlib
import csv
import json
import sqlite3
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch

from evidence.records import checkpoints

TIMED = {"run.log", ".lock"}  # files that tell the time
TOLD = {
    "record",
    "path",
    "process",
    "began",
    "ended",
    "mlflow_run_id",
}  # entries of result.json that tell of this attempt


class Rows(NamedTuple):
    """How the metrics in the store agree with those in the folder: each name and step there once, with its value."""

    expected: int
    missing: int
    doubled: int
    other: int  # that the folder does not have


def directory(root: Path, seed: int = 0) -> Path:
    """The folder of the one run with this seed."""
    (found,) = root.glob(f"outputs/*-s{seed}-*")
    return found


def result(directory: Path) -> dict[str, Any]:
    """result.json; empty before there is one."""
    path = directory / "result.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found


def statuses(root: Path) -> dict[str, str]:
    """By name, the status of every run in the store but those of sweeps; empty before there is one."""
    if not (root / "mlflow.db").exists():
        return {}
    return {
        f"{name} {number}": status
        for number, name, status in _query(
            root,
            "select run_uuid, name, status from runs where run_uuid not in"
            " (select run_uuid from tags where key = 'sweep_parent')",
        )
    }


def differences(ours: Path, theirs: Path) -> Iterator[str]:
    """In words, each difference between two folders of one run, and between what MLflow has of each."""
    files, expected = _files(ours), _files(theirs)
    yield from (f"{name} is in one folder only" for name in sorted(files ^ expected))
    timed = TIMED | {
        name for name in files if name.endswith(checkpoints.SUFFIX)
    }  # of what has `seconds` in it
    for name in sorted(files & expected - timed):
        yield from _unequal(name, _content(ours / name), _content(theirs / name))
    yield from _unequal("MLflow's", _stored(ours), _stored(theirs))


def compared_rows(directory: Path) -> Rows:
    """Of one finished run."""
    with (directory / "metrics.csv").open(newline="") as file:
        expected = Counter(
            (row["name"], int(row["step"]), float(row["value"])) for row in csv.DictReader(file)
        )
    ends = {
        name: value
        for name, value in result(directory)["metrics"].items()
        if name.startswith(("test/", "test_", "speed/"))
    }
    expected.update((name, 0, value) for name, value in ends.items())
    found = Counter(_of_run(directory, "key, step, value", "metrics"))
    places = Counter((name, step) for name, step, _ in found.elements())
    return Rows(
        expected.total(),
        (expected - found).total(),
        sum(count - 1 for count in places.values()),
        len(found.keys() - expected.keys()),
    )


def _files(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}


def _unequal(what: str, ours: Any, theirs: Any) -> Iterator[str]:
    if isinstance(ours, dict) and ours.keys() == theirs.keys():
        yield from (f"{what} {key} differs" for key in ours if ours[key] != theirs[key])
    elif ours != theirs:
        yield f"{what} differs"


def _content(path: Path) -> Any:
    if path.suffix == ".pt":
        return _canonical(checkpoints.load(path) | {"seconds": 0.0})
    return _untimed(result(path.parent)) if path.name == "result.json" else path.read_bytes()


def _untimed(result: dict[str, Any]) -> dict[str, Any]:
    metrics = {name: value for name, value in result["metrics"].items() if not name.startswith("speed/")}
    return {key: value for key, value in result.items() if key not in TOLD} | {"metrics": metrics}


def _canonical(value: Any) -> Any:
    """Tensors as their bytes: to the last bit, unlike ==."""
    if isinstance(value, torch.Tensor):
        return str(value.dtype), tuple(value.shape), value.contiguous().numpy().tobytes()
    if isinstance(value, dict):
        return {key: _canonical(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(entry) for entry in value]
    return value


def _stored(directory: Path) -> dict[str, Any]:
    """What MLflow has of a run besides its metrics."""
    (artifacts,) = directory.parents[1].glob(f"mlruns/*/{_number(directory)}/artifacts")
    return {
        "runs of this name": _query(
            directory.parents[1], f"select count(*) from runs where name = '{directory.name}'"
        ),
        "status": _of_run(directory, "status", "runs"),
        "params": _of_run(directory, "key, value", "params"),
        "tags": [key for (key,) in _of_run(directory, "key", "tags")],
        "artifacts": {name: _sent(artifacts / name) for name in _files(artifacts)},
    }


def _sent(path: Path) -> bytes:
    """The content of an artifact. That of a file with times is empty: the folder's own is compared."""
    return b"" if path.name in ("MLmodel", "result.json", "run.log") else path.read_bytes()


def _number(directory: Path) -> str:
    record = result(directory)["record"]
    rows = _query(
        directory.parents[1], f"select run_uuid from tags where key = 'record' and value = '{record}'"
    )
    (number,) = (str(number) for (number,) in rows)
    return number


def _of_run(directory: Path, columns: str, table: str) -> list[tuple[Any, ...]]:
    return sorted(
        _query(directory.parents[1], f"select {columns} from {table} where run_uuid = '{_number(directory)}'")
    )


def _query(root: Path, query: str) -> list[tuple[Any, ...]]:
    with contextlib.closing(sqlite3.connect(root / "mlflow.db")) as store:
        return store.execute(query).fetchall()
