"""Importing torch and MLflow makes a million objects that all live on, and Python's collector, which wakes after
every few hundred new ones, looks through them again and again: a fifth of the time to the first step.
"""

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def without_garbage_collection() -> Iterator[None]:
    """No garbage is collected inside the block."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
