"""A run's folder: what stands in it, and how it is read and written so that a crash leaves nothing half-written."""

import csv
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from evidence.checkpoints import CorruptCheckpoint, load, save

Row = tuple[str, float, int]  # a metric's name, value and step


class Home:
    """outputs/<run name>/: config.yaml, result.json, metrics.csv, run.log, checkpoints/, figures/."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config, self.log = folder / "config.yaml", folder / "run.log"
        self.metrics, self.figures = folder / "metrics.csv", folder / "figures"

    def create(self) -> None:
        """Make the folders; raises OSError where that cannot be done."""
        self.figures.mkdir(parents=True, exist_ok=True)
        (self.folder / "checkpoints").mkdir(exist_ok=True)

    @property
    def result(self) -> dict[str, Any]:
        """result.json: status, identity and numbers; empty before the first start."""
        path = self.folder / "result.json"
        result: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        return result

    def update_result(self, **changes: Any) -> dict[str, Any]:
        """result.json with some entries replaced, atomically."""
        result = self.result | changes
        temporary = self.folder / "result.json.tmp"
        temporary.write_text(json.dumps(result, indent=2) + "\n")
        os.replace(temporary, self.folder / "result.json")
        return result

    def append_metrics(self, rows: Sequence[Row]) -> None:
        """Add rows to metrics.csv."""
        begins = not self.metrics.exists()
        with self.metrics.open("a", newline="") as file:
            writer = csv.writer(file)
            if begins:
                writer.writerow(["name", "value", "step"])
            writer.writerows(rows)

    def read_metrics(self, last_step: int) -> list[Row]:
        """The rows up to a step."""
        if not self.metrics.exists():
            return []
        with self.metrics.open(newline="") as file:
            rows = [(row["name"], float(row["value"]), int(row["step"])) for row in csv.DictReader(file)]
        return [row for row in rows if row[2] <= last_step]

    def replace_metrics(self, rows: Sequence[Row]) -> None:
        """Make metrics.csv hold exactly these rows."""
        self.metrics.unlink(missing_ok=True)
        self.append_metrics(rows)

    def checkpoints(self) -> dict[int, Path]:
        """Checkpoints by step."""
        return {int(path.stem): path for path in sorted((self.folder / "checkpoints").glob("*.pt"))}

    def save_checkpoint(self, state: dict[str, Any], previous: int | None) -> None:
        """Write the state under its step, then drop the one at `previous`."""
        folder = self.folder / "checkpoints"
        save(folder / f"{state['step']:09d}.pt", state)
        if previous is not None:
            (folder / f"{previous:09d}.pt").unlink(missing_ok=True)


def relatives(outputs: Path, train_identity: str) -> Iterator[Home]:
    """The homes under `outputs` whose runs follow the same path of parameters, however far."""
    for path in sorted(outputs.glob("*/result.json")):
        home = Home(path.parent)
        if home.result.get("train_identity") == train_identity:
            yield home


def latest_checkpoint(homes: Sequence[Home], last_step: int) -> tuple[Home, dict[str, Any]] | None:
    """The furthest sound checkpoint at or before `last_step`, and the home it lies in."""
    found = [(step, home, path) for home in homes for step, path in home.checkpoints().items()]
    for step, home, path in sorted(found, key=lambda entry: -entry[0]):
        if step <= last_step:
            try:
                return home, load(path)
            except (CorruptCheckpoint, FileNotFoundError):
                continue
    return None
