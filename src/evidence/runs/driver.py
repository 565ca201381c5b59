"""Drives runs from report to report: one alone, or several together in one process.

A run's life is a generator. It yields what it wants trained, is sent the next report, and returns its result. So a
run keeps its own record, checkpoints and MLflow run in whatever company its steps are taken.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Generator, Hashable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any, Literal, NamedTuple, TypeVar

import torch

from evidence import parts, training
from evidence.data import batches
from evidence.parts import Parts
from evidence.stack import Member, Stack, can_stack
from evidence.training import Report

log = logging.getLogger("evidence")
RUNNING: ContextVar[int] = ContextVar("RUNNING", default=0)  # the number of the run whose life goes on now


class Training(NamedTuple):
    """What a run wants trained after `step`. Runs of one `cell` differ in nothing but their seeds."""

    parts: Parts
    batch_size: int
    reduction: Literal["sum", "mean"]
    log_every: int
    seed: int
    step: int
    device: torch.device
    compiled: bool
    cell: Hashable

    def reports(self) -> Iterator[Report]:
        """Those of the run alone."""
        differentiate = training.compiled(training.gradients) if self.compiled else training.gradients
        return parts.steps(
            self.parts,
            self.batch_size,
            self.reduction,
            self.log_every,
            self.seed,
            self.step,
            self.device,
            differentiate,
        )


class Reported(NamedTuple):
    """A report, and the run's share of the seconds that it took."""

    report: Report
    seconds: float


Result = TypeVar("Result")
Life = Generator[Training, Reported, Result]


def alone(life: Life[Result]) -> Result:
    """The result of a run by itself."""
    (result,) = together([life])
    return result


def together(lives: Sequence[Life[Result]]) -> list[Result]:
    """The results of runs, of which those that differ in their seeds alone are stacked.

    What a life raises ends all of them: it is thrown into each of the others, and raised again. So does Ctrl-C.
    """
    results: dict[int, Result] = {}
    wanted: dict[int, Training] = {}

    def go_on(number: int, resume: Callable[[], Training]) -> None:
        wanted.pop(number, None)
        with _running(number):
            try:
                wanted[number] = resume()
            except StopIteration as stop:
                results[number] = stop.value

    try:
        for number, life in enumerate(lives):
            go_on(number, life.__next__)
        groups: dict[tuple[int, ...], _Group] = {}
        while wanted:
            groups = {numbers: groups.get(numbers) or _group(numbers, wanted) for numbers in _alike(wanted)}
            for numbers, group in groups.items():
                found, seconds = group.next()
                for number, each in zip(numbers, found, strict=True):
                    _send(lives[number], each, seconds, number, go_on)
    except BaseException as error:
        for number in wanted:
            with _running(number), contextlib.suppress(BaseException):
                lives[number].throw(error)
        raise
    return [results[number] for number in range(len(lives))]


@contextlib.contextmanager
def _running(number: int) -> Iterator[None]:
    token = RUNNING.set(number)
    try:
        yield
    finally:
        RUNNING.reset(token)


def _group(numbers: tuple[int, ...], wanted: dict[int, Training]) -> "_Group":
    for number in numbers if len(numbers) > 1 else ():
        with _running(number):
            log.info("from step %d in a stack of %d runs", wanted[number].step, len(numbers))
    return _Group([wanted[number] for number in numbers])


class _Group:
    """Takes the steps of runs up to their next report."""

    def __init__(self, trainings: Sequence[Training]) -> None:
        self._size = len(trainings)
        self._reports = _stacked(trainings) if self._size > 1 else ([each] for each in trainings[0].reports())

    def next(self) -> tuple[list[Report | Exception], float]:
        """Each run's report, or what stops it, and its share of the seconds."""
        began = time.monotonic()
        try:
            found: list[Report | Exception] = [*next(self._reports)]
        except Exception as error:
            found = [error] * self._size
        return found, (time.monotonic() - began) / self._size


def _send(
    life: Life[Any],
    found: Report | Exception,
    seconds: float,
    number: int,
    go_on: Callable[[int, Callable[[], Training]], None],
) -> None:
    if isinstance(found, Exception):
        go_on(number, lambda: life.throw(found))
    else:
        go_on(number, lambda: life.send(Reported(found, seconds)))


def _alike(wanted: dict[int, Training]) -> list[tuple[int, ...]]:
    """The numbers of the runs that can be stacked, together, and those of others alone."""
    groups: dict[Hashable, list[int]] = {}
    for number, each in wanted.items():
        schedule = tuple(each.parts.schedule)
        key: Hashable = (each.cell, each.step, each.log_every, each.compiled, each.device, schedule)
        groups.setdefault(key if can_stack(each.parts) else number, []).append(number)
    return [tuple(numbers) for numbers in groups.values()]


def _stacked(trainings: Sequence[Training]) -> Iterator[Sequence[Report | Exception]]:
    first = trainings[0]
    members = [
        Member(
            each.parts,
            each.seed,
            batches(each.parts.dataset, each.batch_size, each.seed, each.step, each.device),
        )
        for each in trainings
    ]
    return Stack(members, first.reduction, first.compiled).train(
        first.parts.schedule, first.step, first.log_every
    )
