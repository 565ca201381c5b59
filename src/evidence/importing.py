"""Importing torch and MLflow makes a million objects that all live on, and Python's collector, which wakes after
every few hundred new ones, looks through them again and again: a fifth of the time to the first step.
"""

import atexit
import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """No garbage is collected inside the block, and what is there at its end is not looked through before the exit."""
    gc.disable()
    atexit.register(gc.unfreeze)  # else triton, which torch.compile imports, complains of leaks
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
