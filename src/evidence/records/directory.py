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
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from filelock import FileLock, Timeout

try:
    from yaml import CSafeLoader as SafeLoader
except ImportError:  # PyYAML without libyaml
    from yaml import SafeLoader

from evidence.config.settings import completed
from evidence.records import files, identity
from evidence.records.checkpoints import drop, save
from evidence.records.damage import damaged, left_out, reading
from evidence.records.record import Record

KEPT = 2  # checkpoints, besides those that are kept to the end

Row = tuple[str, float, int]  # a metric's name, value and step


Snapshot = dict[Path, bytes | None]  # files, and what they had; None where there was none


class Locked(Exception):
    """Says which other process has a folder's lock."""


class RunDirectory:
    """outputs/<run name>/: config.yaml, result.json, metrics.csv, run.log, checkpoints/, figures/."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config, self.log, self.traceback = (
            folder / name for name in ("config.yaml", "run.log", "traceback.txt")
        )
        self.metrics, self.figures = folder / "metrics.csv", folder / "figures"
        self.lock, self.result = folder / ".lock", folder / "result.json"

    @contextlib.contextmanager
    def locked(self, waits: bool) -> Iterator[None]:
        """Lock the folder for this process. The folder is made if it is missing.

        Raises: Locked where another process has the lock, unless this one waits for it. OSError where the folder cannot
        be written.
        """
        self.figures.mkdir(parents=True, exist_ok=True)
        (self.folder / "checkpoints").mkdir(exist_ok=True)
        try:
            held = FileLock(self.lock).acquire(blocking=waits)
        except Timeout:
            holder = (self.read() or Record()).process
            who = f"process {holder.pid or '?'} on {holder.host or '?'}, since {holder.since or '?'}"
            raise Locked(f"{self.folder.name} is being computed by {who}") from None
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
                if self.result.exists():
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
        """result.json, read now; None before the first start. Raises: Damaged where it cannot be read."""
        try:
            with reading(self.result):
                return Record.model_validate_json(self.result.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return None

    def update(self, **changes: Any) -> Record:
        """Replace some entries of result.json.

        A final status sets `ended`: to the time that is given, or to now.
        """
        known = self.read()
        before = {} if known is None else known.model_dump(exclude_unset=True)
        result = before | changes
        status = changes.get("status")
        if status == "RUNNING":
            result.pop("ended", None)
        elif status is not None and (status != before.get("status") or "ended" not in before):
            result["ended"] = changes.get("ended") or now()
        text = json.dumps(result, indent=2).encode()
        record = Record.model_validate_json(text)
        files.write(self.result, text, b"\n")
        return record

    def snapshot(self) -> Snapshot | None:
        """What `restore` takes: the record with its settings and traceback. None where there is no record."""
        if self.read() is None:
            return None
        paths = (self.config, self.traceback, self.result)
        return {path: path.read_bytes() if path.is_file() else None for path in paths}

    def restore(self, before: Snapshot) -> None:
        """Make the record what it was. Raises: OSError where it cannot be written."""
        for path, content in before.items():
            if content is not None:
                files.write(path, content)
            elif path.is_file():
                path.unlink()

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that the run was computed with, with keys that are newer. Raises: as `settings_of`."""
        return self.settings_of(self.read() or Record())

    def settings_of(self, record: Record) -> dict[str, Any]:
        """The content of config.yaml, with keys that are newer than it, of a run whose record was read.

        Raises: Damaged where it is missing, cannot be read, or has other settings than the record.
        """
        try:
            with reading(self.config):
                settings = yaml.load(self.config.read_bytes(), SafeLoader)
                if not isinstance(settings, dict):
                    raise damaged(self.config, "it has no settings")
        except FileNotFoundError:
            raise damaged(self.config, "it is missing") from None
        settings = completed(settings)
        recorded = record.settings_identity if record.identity_version == identity.VERSION else ""
        if recorded and recorded != identity.settings_identity(settings):
            raise damaged(self.config, "it has other settings than the run was computed with")
        return settings

    def append_metrics(self, rows: Sequence[Row]) -> None:
        """Add rows to metrics.csv."""
        with self.metrics.open("a", newline="") as file:
            writer = csv.writer(file)
            if file.tell() == 0:
                writer.writerow(["name", "value", "step"])
            writer.writerows(rows)

    def read_metrics(self, size: int | None = None) -> list[Row]:
        """The rows in the first `size` bytes of metrics.csv, or in all of it.

        Raises: Damaged where they cannot be read, or the file is shorter.
        """
        with reading(self.metrics):
            content = self.metrics.read_bytes() if os.path.lexists(self.metrics) else b""
            if len(content) < (size or 0):
                raise damaged(self.metrics, "rows are missing")
            text = io.StringIO(content[:size].decode(), newline="")
            return [(row["name"], float(row["value"]), int(row["step"])) for row in csv.DictReader(text)]

    def take_metrics(self, origin: "RunDirectory", size: int) -> None:
        """Make metrics.csv the first `size` bytes of the origin's, which may be this directory."""
        content = origin.metrics.read_bytes()[:size] if size else b""
        files.write(self.metrics, content)

    def checkpoints(self) -> dict[int, Path]:
        """Checkpoints by step."""
        paths = (self.folder / "checkpoints").glob("*.pt")
        return dict(sorted((int(path.stem), path) for path in paths if path.stem.isdecimal()))

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
        drop(self.folder / "checkpoints", passing[: len(passing) - keep])


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
    with left_out(there):
        original = RunDirectory(there).read()
        return original is not None and original.record == record.record
    return False


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
    """All records below `outputs`, in the order of the folders' names. Each result.json is read once.

    A record that cannot be read is named on stderr and left out.
    """
    found = []
    for folder in sorted(outputs.glob("*")):
        directory = RunDirectory(folder)
        with left_out(folder):
            if (record := directory.read()) is not None:
                found.append(Stored(directory, record))
    return found
