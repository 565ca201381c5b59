"""Runs that compute nothing, to stand in the place of real ones, and how to read what is printed of them."""

import sys
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
import yaml

import evidence.runs
from evidence import project
from evidence.config import compose
from evidence.config.settings import Settings
from evidence.errors import UserError
from evidence.records.directory import RunDirectory
from evidence.runs import hardware, lookup
from evidence.runs.driver import Reported, Training

CONF = Path(__file__).resolve().parents[2] / "conf"
METRICS = {
    "test/nll": 87.654,
    "test/nll_se": 0.321,
    "test/active_units": 12.0,
    "speed/train_seconds": 3600.0,
    "speed/eval_seconds": 59.5,
    "valid/nll": 90.0,
}

PASSES = 13  # of `trainer=quick`

Compute = Callable[[Settings], None]


class MadeUp:
    """In the located of evidence.runs.lifecycle: each run leaves a record, with `compute` between its start and end.

    The record says that the run took as long as in METRICS, on the CPU, with MNIST.
    """

    def __init__(self, root: Path) -> None:
        self.ROOT = root
        self.started: list[Settings] = []
        self.numbers: list[int | None] = []
        self.prepared: list[str] = []
        self.synced: list[str] = []
        self.compute: Compute = lambda settings: None

    def run(
        self, settings: Settings, located: lookup.LocatedRun | None = None, job_number: int | None = None
    ) -> float:
        self.started.append(settings)
        self.numbers.append(job_number)
        located = lookup.locate(settings, self.ROOT) if located is None else located
        directory = located.directory
        if not located.is_finished:
            directory.folder.mkdir(parents=True, exist_ok=True)
            directory.config.write_text(yaml.safe_dump(settings.model_dump(by_alias=True), sort_keys=False))
            directory.update(
                status="KILLED",
                code=located.code,
                mixed=[],
                device="cpu",
                provenance={"processor": hardware.processor()},
                data={"splits": {"train": 59_600, "valid": 400, "test": 10_000}},
                steps=settings.trainer.steps or PASSES * (59_600 // settings.trainer.batch_size),
                eval_images=settings.eval.images or 10_000,
                **located.facts(),
            )
            self.compute(settings)
            directory.update(status="FINISHED", metrics=METRICS)
        return 90.0

    def coroutine(
        self, settings: Settings, located: lookup.LocatedRun, job_number: int, progress: object, sweep: object
    ) -> Generator[Training, Reported, float]:
        yield from ()  # nothing is to be trained
        return self.run(settings, located, job_number)

    def prepare(self, settings: Settings) -> None:
        self.prepared.append(settings.name)

    def sync(self, settings: Settings) -> bool:
        self.synced.append(settings.name)
        return True


def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MadeUp:
    """Made-up runs, below a root of their own."""
    made_up = MadeUp(tmp_path / "it's the root")
    monkeypatch.setitem(sys.modules, "evidence.runs.lifecycle", made_up)  # type: ignore[arg-type]
    monkeypatch.setattr(evidence.runs, "lifecycle", made_up, raising=False)
    monkeypatch.setattr(sys, "argv", ["run.py"])
    monkeypatch.setattr(project, "_root", made_up.ROOT)
    return made_up


def fails_at(seed: int) -> Compute:
    """The run with this seed fails."""

    def compute(settings: Settings) -> None:
        if settings.seed == seed:
            raise UserError("out of luck")

    return compute


def request(*words: str) -> compose.Request:
    arguments, _ = compose.read_arguments(list(words))
    return compose.request(CONF, arguments)


def directory_of(root: Path, *words: str) -> RunDirectory:
    """The record of the run that a command line asks for."""
    (job,) = request(*words).jobs
    return lookup.locate(job.settings, root).directory


def rows(table: str) -> list[list[str]]:
    """The cells of a printed table."""
    lines = [[cell.strip() for cell in line.split("   ") if cell.strip()] for line in table.splitlines()]
    return [line for line in lines if len(line) > 1]
