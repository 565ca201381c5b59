"""Reads and writes a run's folder. A crash leaves nothing half-written.

A checkpoint is the commit point. It has the length that metrics.csv had when it was taken. Rows that were written
after that count only once the next checkpoint is there.
"""

import contextlib
import csv
import io
import json
import math
import os
import socket
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from filelock import FileLock, Timeout

try:
    from yaml import CSafeLoader as SafeLoader
except ImportError:  # PyYAML without libyaml
    from yaml import SafeLoader

from evidence.errors import UserError
from evidence.records import files
from evidence.records.checkpoints import Checkpoint, CorruptCheckpoint, load, save
from evidence.records.record import Record

KEPT = 2  # checkpoints, besides those that are kept to the end

Row = tuple[str, float, int]  # a metric's name, value and step


class RunDirectory:
    """outputs/<run name>/: config.yaml, result.json, metrics.csv, run.log, checkpoints/, figures/."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config, self.log, self.traceback = (
            folder / name for name in ("config.yaml", "run.log", "traceback.txt")
        )
        self.metrics, self.figures = folder / "metrics.csv", folder / "figures"
        self.lock, self._result = folder / ".lock", folder / "result.json"

    @contextlib.contextmanager
    def locked(self, on_wait: Callable[[str], None]) -> Iterator[None]:
        """Lock the folder for this process. The folder is made if it is missing.

        If another process has the lock, `on_wait` gets its name, and the block waits.
        Raises: OSError where the folder cannot be written.
        """
        self.figures.mkdir(parents=True, exist_ok=True)
        (self.folder / "checkpoints").mkdir(exist_ok=True)
        lock = FileLock(self.lock)
        try:
            held = lock.acquire(blocking=False)
        except Timeout:
            holder = (self.read() or Record()).process
            on_wait(f"process {holder.pid or '?'} on {holder.host or '?'}, since {holder.since or '?'}")
            held = lock.acquire()
        with held:
            self.heartbeat()
            for torn in self.folder.rglob("*.tmp"):  # left by a process that died writing
                torn.unlink()
            yield

    @contextlib.contextmanager
    def try_locked(self) -> Iterator[bool]:
        """Yield whether the folder is there and no process has its lock.

        If so, this process has the lock inside the block.
        """
        is_free = False
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(OSError):  # Timeout is one
                if self._result.exists():
                    stack.enter_context(FileLock(self.lock, blocking=False))
                    is_free = True
            yield is_free

    def heartbeat(self) -> None:
        """Note that the process with the lock is alive, for hosts that cannot see the lock."""
        os.utime(self.lock)

    def silent_seconds(self) -> float:
        """The seconds since the last heartbeat."""
        return time.time() - self.lock.stat().st_mtime if self.lock.exists() else math.inf

    def last_sign(self) -> datetime:
        """When a process last gave a heartbeat, or wrote metrics or a checkpoint."""
        paths = [self.lock, self.metrics, *self.checkpoints().values()]
        written = [datetime.fromtimestamp(path.stat().st_mtime, UTC) for path in paths if path.exists()]
        if not written:
            return datetime.fromisoformat((self.read() or Record()).process.since)
        return max(written)

    def read(self) -> Record | None:
        """result.json, read now; None before the first start."""
        return Record.model_validate_json(self._result.read_bytes()) if self._result.exists() else None

    def update(self, **changes: Any) -> Record:
        """Replace some entries of result.json.

        A final status sets `ended`: to the time that is given, or to now.
        """
        before = json.loads(self._result.read_text()) if self._result.exists() else {}
        result = before | changes
        status = changes.get("status")
        if status == "RUNNING":
            result.pop("ended", None)
        elif status is not None and (status != before.get("status") or "ended" not in before):
            result["ended"] = changes.get("ended") or now()
        text = json.dumps(result, indent=2).encode()
        record = Record.model_validate_json(text)
        files.write(self._result, text, b"\n")
        return record

    @property
    def settings(self) -> dict[str, Any]:
        """The content of config.yaml. Raises: UserError where it is missing."""
        if not self.config.exists():
            raise UserError(f"{self.config} is missing: the record cannot be read without it")
        settings: dict[str, Any] = yaml.load(self.config.read_bytes(), SafeLoader)
        return settings

    def append_metrics(self, rows: Sequence[Row]) -> None:
        """Add rows to metrics.csv."""
        with self.metrics.open("a", newline="") as file:
            writer = csv.writer(file)
            if file.tell() == 0:
                writer.writerow(["name", "value", "step"])
            writer.writerows(rows)

    def read_metrics(self, size: int | None = None) -> list[Row]:
        """The rows in the first `size` bytes of metrics.csv, or in all of it."""
        if not self.metrics.exists():
            return []
        text = io.StringIO(self.metrics.read_bytes()[:size].decode(), newline="")
        return [(row["name"], float(row["value"]), int(row["step"])) for row in csv.DictReader(text)]

    def take_metrics(self, origin: "RunDirectory", size: int) -> None:
        """Make metrics.csv the first `size` bytes of the origin's, which may be this directory."""
        content = origin.metrics.read_bytes()[:size] if size else b""
        files.write(self.metrics, content)

    def checkpoints(self) -> dict[int, Path]:
        """Checkpoints by step."""
        return {int(path.stem): path for path in sorted((self.folder / "checkpoints").glob("*.pt"))}

    def save_checkpoint(self, state: dict[str, Any], for_good: Collection[int]) -> None:
        """Commit the state, and metrics.csv as it is now.

        Of the checkpoints at steps that are not in `for_good`, the last KEPT are kept.
        """
        size = 0
        if self.metrics.exists():
            with self.metrics.open("rb") as file:
                os.fsync(file.fileno())
                size = os.fstat(file.fileno()).st_size
        save(self.folder / "checkpoints" / f"{state['step']:09d}.pt", state | {"metrics_size": size})
        self.drop_checkpoints(for_good, KEPT)

    def drop_checkpoints(self, for_good: Collection[int], keep: int) -> None:
        """Delete the checkpoints at steps that are not in `for_good`, except the last `keep`."""
        passing = [path for step, path in self.checkpoints().items() if step not in for_good]
        for path in passing[: len(passing) - keep]:
            path.unlink(missing_ok=True)


def begin(directory: RunDirectory, **facts: Any) -> None:
    """Note that this process computes the run now, and when the first process began it."""
    before = directory.read() or Record()
    process = {"host": socket.gethostname(), "pid": os.getpid(), "since": now("seconds")}
    number = "" if _is_copy(directory, before) else before.record
    directory.update(
        record=number or uuid.uuid4().hex,
        path=str(directory.folder.resolve()),
        status="RUNNING",
        process=process,
        began=before.began or before.process.since or now(),
        error=None,
        **facts,
    )


def _is_copy(directory: RunDirectory, record: Record) -> bool:
    """Whether the folder is a copy of a record that is still at its old path. A moved folder is no copy."""
    there = Path(record.path or directory.folder)
    if there.resolve() == directory.folder.resolve():
        return False
    original = RunDirectory(there).read()
    return original is not None and original.record == record.record


def now(resolution: str = "microseconds") -> str:
    """The time now, in UTC."""
    return datetime.now(UTC).isoformat(timespec=resolution)


def shown_folder(folder: Path, root: Path) -> str:
    """The folder, relative to `root` if it is below it."""
    return str(folder.relative_to(root) if folder.is_relative_to(root) else folder)


class Stored(NamedTuple):
    """A run's directory, and its record as it was read."""

    directory: RunDirectory
    record: Record


def stored(outputs: Path) -> list[Stored]:
    """All records below `outputs`, in the order of the folders' names. Each result.json is read once."""
    found = ((RunDirectory(path.parent)) for path in sorted(outputs.glob("*/result.json")))
    return [Stored(directory, record) for directory in found if (record := directory.read()) is not None]


def latest_checkpoint(directories: Iterable[RunDirectory], last_step: int) -> Checkpoint | None:
    """The furthest undamaged checkpoint at or before `last_step`.

    Of two checkpoints at one step it is that of the first directory. None where there is none.
    """
    found = [
        (step, path)
        for directory in directories
        for step, path in directory.checkpoints().items()
        if step <= last_step
    ]
    for step, path in sorted(found, key=lambda entry: -entry[0]):
        with contextlib.suppress(CorruptCheckpoint, FileNotFoundError):
            return Checkpoint(step, load(path), path)
    return None


def checkpoint_at(directories: Iterable[RunDirectory], step: int) -> Checkpoint | None:
    """The undamaged checkpoint at this very step. None where there is none."""
    found = latest_checkpoint(directories, step)
    return found if found is not None and found.step == step else None
