"""What the site adds to a study's page: its figures and its table."""

import contextlib
import csv
from collections.abc import Iterator
from pathlib import Path


def results(study: Path, text: str) -> str:
    """Sections with the pictures that the text does not show, and with the numbers of results.csv."""
    figures = [path.name for path in sorted(study.glob("*.png")) if f"({path.name})" not in text]
    found = [f"![{Path(name).stem.replace('_', ' ')}]({name})" for name in figures]
    if found:
        found.insert(0, "## Figures")
    if (study / "results.csv").is_file():
        rows = "\n".join(f"| {' | '.join(row)} |" for row in _rows(study / "results.csv"))
        found += [
            "## Numbers",
            "All of them are in [results.csv](results.csv), with the names of the runs.",
            rows,
        ]
    return "\n\n" + "\n\n".join(found)


def _rows(table: Path) -> Iterator[list[str]]:
    """The head, the line below it, and the rows, without the runs' names and empty columns."""
    with table.open(newline="") as file:
        head, *rows = csv.reader(file)
    kept = [index for index, name in enumerate(head) if name != "runs" and any(row[index] for row in rows)]
    yield [head[index].replace("_", " ") for index in kept]
    yield ["---"] * len(kept)
    yield from ([_short(row[index]) for index in kept] for row in rows)


def _short(value: str) -> str:
    """A number with five digits, or a word as it stands."""
    with contextlib.suppress(ValueError):
        return value if value.isdigit() else f"{float(value):.5g}"
    return value
