"""Ctrl-C and SIGTERM end a command with all its processes: each of them closes its runs before it ends.

A terminal sends Ctrl-C to all processes of a command. `kill` sends a signal to one of them, which passes it on.
"""

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from types import FrameType

from evidence.errors import Terminated

PATIENCE = 20.0  # seconds for the processes to write their last checkpoints
STATUS = 143  # of a process that SIGTERM has ended, as shells have it


@contextlib.contextmanager
def passing_on() -> Iterator[None]:
    """Inside, a signal ends the processes that this one has made, then raises KeyboardInterrupt or Terminated."""
    with _handled(_pass_on):
        yield


@contextlib.contextmanager
def ending() -> Iterator[None]:
    """Inside, in a process that a launcher has made with multiprocessing, a signal ends the block, then the process.

    In any other process nothing changes: a client of SLURM, for example, has handlers of its own.
    """
    if multiprocessing.parent_process() is None:
        yield
        return
    with _handled(_end):
        try:
            yield
        except Terminated:
            os._exit(STATUS)  # the launcher would give this process the next job


@contextlib.contextmanager
def _handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Inside, the handler takes SIGTERM, and Ctrl-C unless it is ignored, as it is in the background of a shell."""
    before = {signal.SIGTERM: signal.getsignal(signal.SIGTERM)}
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        before[signal.SIGINT] = signal.getsignal(signal.SIGINT)
    for each in before:
        signal.signal(each, handler)
    try:
        yield
    finally:
        for each, earlier in before.items():
            signal.signal(each, earlier)


def _pass_on(signum: int, frame: FrameType | None) -> None:
    children = multiprocessing.active_children()
    if children:
        signal.signal(signum, signal.default_int_handler)  # a second one does not wait
    for each in children:
        each.terminate()
    for each in children:
        each.join(PATIENCE)
    raise KeyboardInterrupt if signum == signal.SIGINT else Terminated


def _end(signum: int, frame: FrameType | None) -> None:
    """A second signal, from the terminal or from `_pass_on`, does not disturb what ends."""
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    raise Terminated
