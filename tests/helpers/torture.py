"""The proof that a run survives kill -9 at any moment: `make torture`.

An interruption is a command typed in a fresh folder, in a process of its own that is killed at a uniformly random
moment of the time that it takes, and typed again. What it leaves behind is compared with what the same command leaves
that was not interrupted. Then parallel sweeps, each on a fresh store, with the program as a user starts it.

Starting torch and MLflow takes many seconds, so processes are forked from one that has imported them.
"""

import math
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

import remains

from evidence import products, project
from evidence.cli import command_line

PROJECT = Path(__file__).resolve().parents[2]
SLOW_TO_IMPORT = [
    "torch._dynamo",
    "mlflow",
    "mlflow.store.tracking.sqlalchemy_store",
    "alembic",
    "hydra",
    "evidence.config.compose",
    "evidence.runs.lifecycle",
]
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
MAKING_A_STORE = 4.0  # seconds, about

SMALL = ["data=digits", "eval=smoke", "eval.images=50", "device=cpu"]
OFTEN = ["trainer.log_every=5", "trainer.checkpoint_seconds=0.02"]
SHORT = ["trainer=smoke", "trainer.steps=100", *OFTEN]
HALVED = ["trainer.decay=0.5", "trainer.decay_every=45"]
STAGES = ["trainer=quick", "trainer.stages=2", "trainer.batch_size=50", *OFTEN]
TWO_LAYERS = ["model=two_layer", "model.latent=[10,5]", "model.hidden=[[20,20],[10,10]]"]
CASES = {
    "vae": ["objective=vae", *SHORT],
    "vae, two layers": ["objective=vae", *TWO_LAYERS, *SHORT, *HALVED],
    "iwae": ["objective=iwae", "k=5", *STAGES],
    "iwae, two layers": ["objective=iwae", "k=5", "objective.num_exact=0", *TWO_LAYERS, *SHORT],
    "critic": ["objective=critic", "objective.warmup=20", *SHORT, *HALVED],
    "critic, two layers": ["objective=critic", "objective.warmup=20", *TWO_LAYERS, *SHORT],
    "uivi": ["objective=uivi", *SHORT, "trainer.steps=24", "trainer.log_every=2"],
    "sivi": ["objective=sivi", *SHORT, "trainer.steps=50", *HALVED],
}
PACKED = ["-m", "hydra/launcher=packed", "objective=vae,iwae", "k=2", "seed=0,1", *SHORT, *HALVED]
VARIANTS = ("", "other", "", "fresh", "")
ANOTHER = ["seed=1", "trainer.stages=null", "trainer.steps=5"]
JOBS = ["objective=vae,iwae", "k=2", "trainer=smoke", "trainer.steps=10"]
NO_ROWS = remains.Rows(0, 0, 0, 0)


class Reference(NamedTuple):
    """The folder of a run that nobody interrupted, and the seconds that its command took."""

    directory: Path
    seconds: float


class Outcome(NamedTuple):
    """How an interruption ended: what the process was at whenever it died, what is wrong, and MLflow's rows."""

    moments: list[str]
    wrong: list[str]
    rows: remains.Rows


class PackedReference(NamedTuple):
    """The folders of packed runs that nobody interrupted, by name, and the seconds that their command took."""

    directories: dict[str, Path]
    seconds: float


class Sweep(NamedTuple):
    """How many of a sweep's jobs are FINISHED, in their folders and in MLflow, and what was said if it failed."""

    in_folders: int
    in_store: int
    said: str


class Torture:
    """Commands in processes of their own, in fresh folders below `folder`, with copies of an empty `store`."""

    def __init__(self, folder: Path, store: Path) -> None:
        self._folder, self._store, self._roots = folder, store, 0
        self._references: dict[str, Reference] = {}
        self._packed: PackedReference | None = None
        self._processes = multiprocessing.get_context("forkserver")
        self._processes.set_forkserver_preload(SLOW_TO_IMPORT)
        first = self._processes.Process(target=os.getpid)  # waits for the imports
        first.start()
        first.join()

    def interrupt(self, case: str, variant: str, seed: str) -> Outcome:
        """Kill the case's command once or twice, type it again, and compare.

        Variants: "fresh", where there is no store yet, and "other", where another command is typed in between, which
        must close the run; or neither.
        """
        reference, chance = self._reference(case), random.Random(seed)
        seconds = reference.seconds + (MAKING_A_STORE if variant == "fresh" else 0.0)
        root, moments = self._killed(CASES[case], variant != "fresh", chance, seconds)
        wrong = self._type_another(root, case) if variant == "other" else []
        wrong += self._type(root, CASES[case])
        if wrong:  # nothing to compare
            return Outcome(moments, wrong, NO_ROWS)
        directory = remains.directory(root)
        wrong += [*remains.differences(directory, reference.directory), *_not_finished(root)]
        return Outcome(moments, wrong, remains.compared_rows(directory))

    def interrupt_packed(self, seed: str) -> Outcome:
        """The same with jobs that train together. In other company their numbers are the same to rounding."""
        reference = self._packed_reference()
        root, moments = self._killed(PACKED, True, random.Random(seed), reference.seconds)
        wrong = self._type(root, PACKED)
        if wrong:
            return Outcome(moments, wrong, NO_ROWS)
        found = {path.name: path for path in root.glob("outputs/*") if path.name in reference.directories}
        wrong += [f"{name} is missing" for name in reference.directories.keys() - found]
        wrong += [name for name in found if not _close(found[name], reference.directories[name])]
        rows = [remains.compared_rows(path) for path in found.values()]
        return Outcome(moments, [*wrong, *_not_finished(root)], added(rows))

    def _packed_reference(self) -> PackedReference:
        if self._packed is None:
            root, began = self._root(), time.monotonic()
            wrong = self._type(root, PACKED)
            if wrong:
                raise AssertionError(f"packed: the uninterrupted runs are wrong: {wrong}")
            found = {path.name: path for path in root.glob("outputs/*-s?-*")}
            self._packed = PackedReference(found, time.monotonic() - began)
        return self._packed

    def _killed(
        self, command: Sequence[str], with_store: bool, chance: random.Random, seconds: float
    ) -> tuple[Path, list[str]]:
        """The folder of a command that was killed once or twice, and what it was at."""
        while not self._is_killed(root := self._root(with_store), command, chance.random() * seconds):
            pass  # it was faster than death
        moments = [_moment(root)]
        if chance.random() < 0.25 and self._is_killed(root, command, chance.random() * seconds):
            moments.append(_moment(root))
        return root, moments

    def _reference(self, case: str) -> Reference:
        if case not in self._references:
            root = self._root()
            began = time.monotonic()
            wrong = self._type(root, CASES[case])
            seconds = time.monotonic() - began
            if wrong or remains.compared_rows(remains.directory(root))[1:] != (0, 0, 0):
                raise AssertionError(f"{case}: the uninterrupted run is wrong: {wrong}")
            self._references[case] = Reference(remains.directory(root), seconds)
        return self._references[case]

    def _root(self, with_store: bool = True) -> Path:
        self._roots += 1
        root = self._folder / str(self._roots)
        root.mkdir()
        if with_store:
            shutil.copy(self._store, root)
        return root

    def _start(self, root: Path, command: Sequence[str]) -> BaseProcess:
        process = self._processes.Process(target=_command, args=(root, [*SMALL, *command]), daemon=True)
        process.start()
        return process

    def _is_killed(self, root: Path, command: Sequence[str], seconds: float) -> bool:
        """Type the command and kill its process after so many seconds, if it has not ended."""
        process = self._start(root, command)
        process.join(seconds)
        process.kill()
        process.join()
        if process.exitcode not in (0, -signal.SIGKILL):
            raise AssertionError(f"status {process.exitcode}: {(root / 'terminal.txt').read_text()[-2000:]}")
        return process.exitcode == -signal.SIGKILL

    def _type(self, root: Path, command: Sequence[str]) -> list[str]:
        """Type a command and wait for its end; in words, what is wrong if it does not end well."""
        process = self._start(root, command)
        process.join()
        if process.exitcode == 0:
            return []
        return [f"status {process.exitcode}: {(root / 'terminal.txt').read_text()[-2000:]}"]

    def _type_another(self, root: Path, case: str) -> list[str]:
        """Type the command of another run: it must close the one that was killed."""
        wrong = self._type(root, [*CASES[case], *ANOTHER])
        if (root / "outputs").is_dir():
            status = {remains.result(directory).get("status") for directory in root.glob("outputs/*-s0-*")}
            wrong += [f"the killed run is {each}" for each in status - {None, "KILLED", "FINISHED"}]
        return wrong + [f"{run} in the store" for run in _not_finished(root) if not run.endswith("KILLED")]


def sweep(root: Path, seeds: int, n_jobs: int) -> Sweep:
    """Two jobs a seed, `n_jobs` at once, of a program that lies in the fresh folder `root`, started as a user does."""
    for name in ("src", "conf"):
        shutil.copytree(PROJECT / name, root / name)
    shutil.copy(PROJECT / "run.py", root)
    words = [*JOBS, f"seed={','.join(map(str, range(seeds)))}"]
    parallel = ["hydra/launcher=joblib", f"hydra.launcher.n_jobs={n_jobs}"]
    ended = subprocess.run(
        [sys.executable, "run.py", "-m", *SMALL, *words, *parallel],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root / "src"), "TMPDIR": str(root)},
        capture_output=True,
        text=True,
    )
    folders = Counter(remains.result(directory).get("status") for directory in root.glob("outputs/*"))
    stored = Counter(remains.statuses(root).values())
    said = "" if ended.returncode == 0 else f"status {ended.returncode}: {ended.stderr[-2000:]}"
    return Sweep(folders["FINISHED"], stored["FINISHED"], said)


def _command(root: Path, argv: list[str]) -> None:
    """The child process: one command line, its output in a file."""
    terminal = os.open(root / "terminal.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(terminal, 1)
    os.dup2(terminal, 2)
    os.chdir(root)
    project.work_in(root)
    products.faster = lambda: "torch"  # what is faster here may change from one run to the next
    sys.exit(command_line.main(argv, PROJECT / "conf"))


def _moment(root: Path) -> str:
    """What a process was doing when it died, as far as what it left behind tells."""
    directories = list(root.glob("outputs/*-s?-*"))
    result = remains.result(directories[0]) if directories else {}
    if not result:
        return "starting"
    if result["status"] == "FINISHED":
        return "leaving" if not _not_finished(root) else "delivering"
    steps = [int(path.stem) for path in directories[0].glob("checkpoints/*.pt")]
    if not steps:
        return "opening"
    return "measuring" if max(steps) == result["steps"] else "training"


def _close(ours: Path, theirs: Path) -> bool:
    """Whether two records have the same numbers, to rounding."""
    one, other = (remains.result(path)["metrics"] for path in (ours, theirs))
    names = [name for name in other if not name.startswith("speed/")]
    return names == [name for name in one if not name.startswith("speed/")] and all(
        math.isclose(one[name], other[name], rel_tol=1e-4, abs_tol=1e-6) for name in names
    )


def added(rows: Sequence[remains.Rows]) -> remains.Rows:
    """The rows of several runs."""
    return remains.Rows(*map(sum, zip(NO_ROWS, *rows, strict=True)))


def _not_finished(root: Path) -> list[str]:
    return [f"{name} is {status}" for name, status in remains.statuses(root).items() if status != "FINISHED"]
