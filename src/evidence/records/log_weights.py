"""Keeps the log-weights behind a run's test metrics, so that a metric can be checked or computed anew.

`np.load(folder / FILE)["log_weights"]` is float32 [S, N], as it was computed: S samples of each of N test images.
`images`, int64 [N], has the images' rows in the test set. For a semi-implicit posterior there are three arrays
instead: mixture, fresh and gaussian. The log-mean-exp over S is an image's estimate of log p(x). Its mean over
images is -test/nll.
"""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from torch import Tensor

from evidence.evaluation import Keep
from evidence.records import files

FILE = "log_weights.npz"


@contextlib.contextmanager
def writing(path: Path, images: Tensor) -> Iterator[Keep]:
    """Yield a function that takes batches of log-weights [S, B]. They are written to `path` when the block ends.

    B is the number of images in a batch. `images` [N] are the rows of the images in the test set. Memory does not
    grow with N. A block that is interrupted leaves nothing.
    Raises: OSError where the file cannot be written.
    """
    with contextlib.ExitStack() as stack:
        # An archive is written array by array, but a batch has a piece of each. These files have no names.
        columns: dict[str, BinaryIO] = {}
        layouts: dict[str, tuple[np.dtype[Any], tuple[int, int]]] = {}

        def keep(log_weights: dict[str, Tensor]) -> None:
            for name, values in log_weights.items():
                batch = values.T.contiguous().cpu().numpy()  # an image's samples are adjacent
                if name not in columns:
                    columns[name] = stack.enter_context(tempfile.TemporaryFile(dir=path.parent))
                    layouts[name] = batch.dtype, (len(values), len(images))
                columns[name].write(batch.data)

        yield keep
        arrays: dict[str, Any] = {}
        for name, (dtype, shape) in layouts.items():
            columns[name].flush()
            arrays[name] = np.memmap(columns[name], dtype, "r", shape=shape, order="F")
        with files.replacing(path) as file:
            np.savez_compressed(file, images=images.numpy(), **arrays)
