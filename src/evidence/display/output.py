"""Keeps stdout and stderr from ending a run.

A stream may be closed or full, its reader may be gone, and its encoding may lack a character. Results are in the
records. So what cannot be written is dropped, and what cannot be encoded is replaced by question marks.
"""

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator
from typing import Any, TextIO

LOST = (OSError, ValueError)  # of a stream whose reader is gone, whose disk is full, or that is closed


class Unfailing:
    """A text stream that drops what the stream below it cannot write."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write the text, with question marks for characters that the encoding lacks."""
        with contextlib.suppress(*LOST):
            try:
                self._stream.write(text)
            except UnicodeEncodeError:
                encoding = self._stream.encoding
                self._stream.write(text.encode(encoding, "replace").decode(encoding))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write each of them."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Write what is buffered."""
        with contextlib.suppress(*LOST):
            self._stream.flush()


@contextlib.contextmanager
def unfailing() -> Iterator[None]:
    """Inside the block, sys.stdout and sys.stderr are Unfailing."""
    _open_missing()
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = map(_unfailing, before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
        for stream in before:
            _settle(stream)


def _unfailing(stream: TextIO | None) -> Any:
    if stream is None:  # it was closed when Python started
        return open(os.devnull, "w")
    return stream if isinstance(stream, Unfailing) else Unfailing(stream)


def _open_missing() -> None:
    """Open the null device as each closed one of descriptors 0, 1 and 2. Else a record's file would become one."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, number)
            if null != number:
                os.close(null)


def _settle(stream: TextIO | None) -> None:
    """Flush the stream. If that fails, send the rest to the null device: at its exit Python would fail otherwise."""
    if stream is None:
        return
    try:
        stream.flush()
    except LOST:
        with contextlib.suppress(*LOST):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
