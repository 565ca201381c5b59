"""Tables measured image by image: what stands in the file is not measured again, and more images are added to it."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from evidence import files

IMAGES_PER_WRITE = 25


def evenly_spaced(count: int, total: int) -> list[int]:
    """The numbers of `count` of `total` images; those of a divisor of `count` are among them."""
    return [index * total // count for index in range(count)]


def complete(
    path: Path, images: Sequence[int], rows: Callable[[int], Sequence[Mapping[str, object]]]
) -> None:
    """Add to the CSV file the rows of the images that it lacks; the column `image` has their numbers.

    The file is written whole every now and then, so that whoever interrupts loses little.
    """
    table = pd.read_csv(path) if path.exists() else pd.DataFrame({"image": []})
    known = set(table["image"])
    lacking = [image for image in images if image not in known]
    for start in range(0, len(lacking), IMAGES_PER_WRITE):
        fresh = [dict(row) for image in lacking[start : start + IMAGES_PER_WRITE] for row in rows(image)]
        table = pd.concat([table, pd.DataFrame(fresh)]) if len(table) else pd.DataFrame(fresh)
        files.write(path, table.to_csv(index=False).encode())
