"""Tables measured image by image: what stands in the file is not measured again, and more images are added to it."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from evidence.records import files
from experiments import provenance

IMAGES_PER_WRITE = 25


def evenly_spaced(count: int, total: int) -> list[int]:
    """The numbers of `count` of `total` images; those of a divisor of `count` are among them."""
    return [index * total // count for index in range(count)]


def complete(
    path: Path,
    images: Sequence[int],
    rows: Callable[[int], Sequence[Mapping[str, object]]],
    same: Mapping[str, object],
) -> None:
    """Add to the CSV file the rows of the images that it lacks; the column `image` has their numbers.

    `same` are columns that all rows have in common, such as the code that measures them: others are dropped. The file
    is written whole every now and then, so that whoever interrupts loses little.
    """
    table = provenance.read(path, same)
    known = set(table["image"]) if len(table) else set()
    lacking = [image for image in images if image not in known]
    for start in range(0, len(lacking), IMAGES_PER_WRITE):
        chosen = lacking[start : start + IMAGES_PER_WRITE]
        fresh = pd.DataFrame([{**row, **same} for image in chosen for row in rows(image)])
        table = pd.concat([table, fresh]) if len(table) else fresh
        files.write(path, table.to_csv(index=False).encode())
