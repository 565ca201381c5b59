"""Drives runs from report to report: one alone, or several together in one process.

A run is a coroutine: a generator that yields what it wants trained, is sent the next report, and returns its result.
So a run keeps its own record, checkpoints and MLflow run, whichever runs its steps are taken with. On a GPU groups of
runs that are not alike compute side by side, each on a stream of its own.
"""

import contextlib
import itertools
import logging
import time
from collections.abc import Callable, Generator, Hashable, Iterator, Sequence
from contextvars import ContextVar
from functools import partial
from typing import Any, Literal, NamedTuple, TypeVar

import torch

from evidence import compiling, execution, training
from evidence.captured import Repeat, Replay
from evidence.data import Batches, batches
from evidence.errors import is_failure
from evidence.parts import Parts
from evidence.stack import Member, Stack, train
from evidence.stackable import CannotStack, why_not
from evidence.training import Report

log = logging.getLogger("evidence")
# The numbers of the runs for which something is done now: one that goes on, or those that take steps together.
RUNNING: ContextVar[tuple[int, ...]] = ContextVar("RUNNING", default=(0,))


class Training(NamedTuple):
    """What a run wants trained after `step`. Runs of one `form` differ in their seeds and in floats alone."""

    parts: Parts
    batch_size: int
    reduction: Literal["sum", "mean"]
    log_every: int
    seed: int
    step: int
    device: torch.device
    execution: dict[str, Any]
    form: Hashable

    @property
    def is_fused(self) -> bool:
        """Whether its step is compiled as one graph."""
        return self.execution["compiled"] and self.parts.objective.is_compilable

    def reports(self) -> Iterator[Report]:
        """Those of the run alone."""
        differentiate = compiling.compiled(training.gradients) if self.is_fused else training.gradients
        parts, rest = self.parts, (self.reduction, self.log_every, self.step, differentiate, self.seed)
        images = batches(parts.dataset, self.batch_size, self.seed, self.step, self.device)
        return training.train(parts.model, parts.objective, parts.optimizer, images, parts.schedule, *rest)


class Reported(NamedTuple):
    """A report, and the run's share of the seconds that it took."""

    report: Report
    seconds: float


class Held(NamedTuple):
    """What a run yields that another process computes. It is sent whether to wait for that, or to try again."""


Result = TypeVar("Result")
Coroutine = Generator[Training | Held, Any, Result]  # sent a Reported for Training, a bool for Held


def alone(coroutine: Coroutine[Result]) -> Result:
    """The result of a run by itself."""
    (result,) = together([coroutine])
    return result


def together(coroutines: Sequence[Coroutine[Result]]) -> list[Result]:
    """The results of runs, of which those of one form are stacked.

    A run that another process computes comes after the others: who waits for it holds no run that others wait for.
    What a run raises ends all of them: it is thrown into each of the others, and raised again. So does Ctrl-C.
    """
    results: dict[int, Result] = {}
    wanted: dict[int, Training] = {}
    held: dict[int, Held] = {}

    def go_on(number: int, resume: Callable[[], Training | Held]) -> None:
        wanted.pop(number, None)
        held.pop(number, None)
        with _running(number):
            try:
                wish = resume()
            except StopIteration as stop:
                results[number] = stop.value
            else:
                if isinstance(wish, Held):
                    held[number] = wish
                else:
                    wanted[number] = wish

    try:
        for number, coroutine in enumerate(coroutines):
            go_on(number, coroutine.__next__)
        groups: Groups = {}
        is_ahead = False  # whether groups go on while others are dealt with; not when a run has left
        while wanted or held:
            if not wanted:
                groups, is_ahead = {}, False
                for number in [*held]:
                    go_on(number, partial(coroutines[number].send, False))
                if held and not wanted:
                    go_on(min(held), partial(coroutines[min(held)].send, True))
                continue
            if not is_ahead:
                busy = {numbers: group for numbers, group in groups.items() if group.is_launched}
                groups, is_ahead = busy | _regrouped(groups, busy, wanted), not busy
            for group in groups.values():
                group.launch()
            for numbers, group in groups.items():
                found, seconds = group.collect()
                for number, each in zip(numbers, found, strict=True):
                    _send(coroutines[number], each, seconds, number, go_on)
                is_ahead = is_ahead and all(number in wanted for number in numbers)
                if is_ahead:
                    group.launch()  # so that a GPU has work meanwhile
    except BaseException as error:
        for number in {**wanted, **held}:
            with _running(number), contextlib.suppress(BaseException):
                coroutines[number].throw(error)
        raise
    return [results[number] for number in range(len(coroutines))]


@contextlib.contextmanager
def _running(*numbers: int) -> Iterator[None]:
    token = RUNNING.set(numbers)
    try:
        yield
    finally:
        RUNNING.reset(token)


Reports = Iterator[Sequence[Report | BaseException] | None]


class _Group:
    """Takes the steps of runs up to their next report.

    On a GPU they are on their way after `launch`, beside those of other groups, and `collect` waits for them.
    """

    def __init__(self, reports: Reports, numbers: tuple[int, ...], execution: dict[str, Any]) -> None:
        self._reports, self._numbers, self._execution = reports, numbers, execution
        self._seconds = 0.0
        self._failed: BaseException | None = None
        self.is_launched = False

    def launch(self) -> None:
        """Start the steps, unless they are on their way."""
        if not self.is_launched:
            self._next()
            self.is_launched = True

    def collect(self) -> tuple[list[Report | BaseException], float]:
        """Each run's report, or what stops it, and its share of the seconds."""
        found = self._next() if self._failed is None else None
        self.is_launched = False
        seconds, self._seconds = self._seconds / len(self._numbers), 0.0
        if self._failed is not None:
            return [self._failed] * len(self._numbers), seconds
        return list(found or ()), seconds

    def _next(self) -> Sequence[Report | BaseException] | None:
        began = time.monotonic()
        try:
            execution.enforce(self._execution)
            with _running(*self._numbers):
                return next(self._reports)
        except BaseException as error:
            if not is_failure(error):
                raise
            self._failed = error
            return None
        finally:
            self._seconds += time.monotonic() - began


Groups = dict[tuple[int, ...], _Group]


def _regrouped(groups: Groups, busy: Groups, wanted: dict[int, Training]) -> Groups:
    """The groups of the runs whose steps are not on their way: those that there are, and new ones."""
    idle = {number: each for number, each in wanted.items() if number not in itertools.chain(*busy)}
    return {numbers: groups.get(numbers) or _group(numbers, idle) for numbers in _alike(idle)}


def _group(numbers: tuple[int, ...], wanted: dict[int, Training]) -> _Group:
    with _running(*numbers):
        return _Group(_reports(numbers, wanted), numbers, wanted[numbers[0]].execution)


def _reports(numbers: tuple[int, ...], wanted: dict[int, Training]) -> Reports:
    """One run alone takes the loop's steps, but where they are compiled and can be one graph from batch to Adam."""
    trainings = [wanted[number] for number in numbers]
    first = trainings[0]
    for each in trainings:
        if (part := each.parts.objective.compiled_part) is not None:
            part.is_compiled = each.execution["compiled"] and len(numbers) == 1
    is_whole = first.is_fused or first.execution["captured"]
    if len(numbers) == 1 and (not is_whole or why_not(first.parts)):
        return _beside(numbers, trainings)
    try:
        stack = _stack(trainings)
    except CannotStack as reason:
        log.info("not stacked: %s", reason)
        return _beside(numbers, trainings)
    except BaseException as error:
        if not is_failure(error):
            raise
        return _failed(error)
    how = f"in a stack of {len(numbers)} runs" if len(numbers) > 1 else "as whole graphs"
    replayed = ", captured and replayed" if first.execution["captured"] else ""
    log.info("from step %d %s%s", first.step, how, replayed)
    return train(stack, [each.parts.schedule for each in trainings], first.log_every)


def _beside(numbers: tuple[int, ...], trainings: Sequence[Training]) -> Reports:
    """Of runs that each take their own steps."""
    singles = [each.reports() for each in trainings]
    while True:
        yield None
        yield [_result(number, single) for number, single in zip(numbers, singles, strict=True)]


def _failed(error: BaseException) -> Reports:
    """Of runs whose first step fails."""
    raise error
    yield


def _result(number: int, reports: Iterator[Report]) -> Report | BaseException:
    try:
        with _running(number):
            return next(reports)
    except BaseException as error:
        if not is_failure(error):
            raise
        return error


def _send(
    coroutine: Coroutine[Any],
    found: Report | BaseException,
    seconds: float,
    number: int,
    go_on: Callable[[int, Callable[[], Training | Held]], None],
) -> None:
    if isinstance(found, BaseException):
        go_on(number, lambda: coroutine.throw(found))
    else:
        go_on(number, lambda: coroutine.send(Reported(found, seconds)))


def _alike(wanted: dict[int, Training]) -> list[tuple[int, ...]]:
    """The numbers of the runs that can be stacked, together, and those of others alone."""
    groups: dict[Hashable, list[int]] = {}
    for number, each in wanted.items():
        ends = tuple(segment.last_step for segment in each.parts.schedule)
        how = repr([each.execution, each.device])
        key: Hashable = (each.form, each.step, each.log_every, how, ends)
        groups.setdefault(number if why_not(each.parts) else key, []).append(number)
    return [tuple(numbers) for numbers in groups.values()]


def _stack(trainings: Sequence[Training]) -> Stack:
    first = trainings[0]
    own = Batches.of(
        first.parts.dataset, first.batch_size, first.seed, first.device
    )  # one copy of the images
    members = [Member(each.parts, each.seed, own._replace(seed=each.seed)) for each in trainings]
    repeat = partial(Replay, device=first.device) if first.execution["captured"] else Repeat
    return Stack(members, first.reduction, first.step, first.is_fused, repeat)
