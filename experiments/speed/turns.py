"""Timing programs side by side on a machine that does not hold still.

A processor's speed can drift by half within minutes, and a library's idle threads go on spinning for a while
beside the next one's work. So each contestant is a process of its own that is stopped (SIGSTOP) while it is not its
turn; turns go round and round; and what is quoted of two contestants is the median of the ratios within a round.
"""

import contextlib
import signal
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from experiments.speed.setting import ROOT

WARM_UP, WARM_UP_SECONDS = 300, 12.0  # steps, by when IWAE's denormals have appeared, unless they take longer
ROUNDS = 7
SECONDS = 0.25  # of one measurement


class Reply(NamedTuple):
    """A worker's answer: seconds for each step, and the most memory its process has ever held."""

    seconds: float
    peak_mib: float


class Failed(Exception):
    """A worker that ended, and the last thing it said."""


class Worker:
    """A process `python -m experiments.speed.workers.<module>` that answers lines; see workers/protocol.py."""

    def __init__(self, module: str, images: Path, device: str, *options: str) -> None:
        self._log = images.with_name("-".join([module, *options]) + ".log")
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", f"experiments.speed.workers.{module}", str(images), device, *options],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def run(self, case: str, count: int) -> Reply:
        """At least `count` steps of a case, which is built first if it is new. Raises Failed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.send_signal(signal.SIGCONT)
        with contextlib.suppress(BrokenPipeError):  # it has ended, and its log says why
            print(case, count, file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        self._process.send_signal(signal.SIGSTOP)
        if not answer:
            raise Failed((self._log.read_text().strip().splitlines() or ["it ended without a word"])[-1])
        return Reply(*map(float, answer.split()))

    def close(self) -> None:
        """End it, which needs no turn."""
        self._process.kill()
        self._process.communicate()


@contextlib.contextmanager
def workers(
    images: Path, device: str, commands: Mapping[str, tuple[str, ...]]
) -> Iterator[dict[str, Worker]]:
    """Workers by name, of a module and its options each; they end with the context."""
    started: dict[str, Worker] = {}
    try:
        for name, (module, *options) in commands.items():
            started[name] = Worker(module, images, device, *options)
        yield started
    finally:
        for worker in started.values():
            worker.close()


class Spread(NamedTuple):
    """The median of several repetitions, the lowest and the highest."""

    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """What is printed of repetitions."""
    return Spread(statistics.median(values), min(values), max(values))


def ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """The median over rounds of one contestant's time over another's."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def take_turns(team: Mapping[str, Worker], case: str) -> dict[str, list[Reply]]:
    """Each worker's replies, one for each round. Each turn begins with a tenth more steps that are not counted.

    A worker that fails is left out, and said to be.
    """
    counts: dict[str, int] = {}
    for name, worker in team.items():
        try:
            worker.run(
                case, 1
            )  # builds it, which may compile: alone, since compilers time what they choose from
            seconds = worker.run(case, 1).seconds
            seconds = worker.run(case, max(1, min(WARM_UP, round(WARM_UP_SECONDS / seconds)))).seconds
            counts[name] = max(1, round(SECONDS / seconds))
        except Failed as failure:
            print(f"left out: {name}, case {case}: {failure}", flush=True)
    replies: dict[str, list[Reply]] = {name: [] for name in counts}
    for _ in range(ROUNDS):
        for name, count in counts.items():
            team[name].run(case, max(1, count // 10))
            replies[name].append(team[name].run(case, count))
    return replies
