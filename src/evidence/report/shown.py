"""Turns each study's findings into what the report shows: text, links and images without a markup."""

import base64
import re
import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import quote

import pandas as pd

from evidence.display.style import DPI
from evidence.report.study import BUDGETS, Claim, Findings, Picture, Study

CSS_DPI = 96  # CSS pixels per inch: a figure's letters are as large as the text around it
PNG = b"\x89PNG\r\n\x1a\n"
# Such as 94.56 ± 0.25, 13 of 3280, 1.2e-3, —
NUMBER = re.compile(r"(?:[\d\s.,+\-\u2212\u2013\u2014±()/%\u00d7<>≤≥≈e]|of)*")
SEED = re.compile(r"-s(\d+)-[0-9a-f]+(?:-\d+)?$")  # the end of a run's name


class Section(NamedTuple):
    """A study and what it found.

    command: what makes it. files: what it offers beside the page, its results as CSV first. place: their folder,
    relative to the page; the study's name if it is None.
    """

    study: Study
    findings: Findings
    command: str
    files: tuple[str, ...] = ("results.csv",)
    place: str | None = None

    def path(self, file: str) -> str:
        """The path of a file, relative to the page."""
        return f"{self.study.name}/{file}" if self.place is None else f"{self.place}{file}"


class Links(NamedTuple):
    """A run's folder, relative to the page, and the URL of its page in MLflow; None without a server."""

    folder: str
    url: str | None


class Verdict(NamedTuple):
    """The verdict on a claim. A word and a symbol name it, so that no reader depends on the colour."""

    word: str
    symbol: str
    style: str


VERDICTS = {
    True: Verdict("holds", "✓", "holds"),
    False: Verdict("does not hold", "✗", "fails"),
    None: Verdict("not decided", "○", "open"),
}


class Run(NamedTuple):
    """A run's name, the text of its link (the seed), and its links as URLs.

    These are None for a run that was not found.
    """

    name: str
    label: str
    links: Links | None


class Column(NamedTuple):
    """A table's column: its heading and the kind of all its cells."""

    name: str
    kind: Literal["number", "text", "runs"]


class Image(NamedTuple):
    """A picture as a data URI with its size in CSS pixels. The URI is None where the file is missing or no PNG.

    path and vector are the files of the picture and of the same as PDF, relative to the page.
    """

    picture: Picture
    path: str
    vector: str | None
    uri: str | None
    width: int
    height: int


class Shown(NamedTuple):
    """What the report shows of a study. A cell of a row comes with its column."""

    study: Study
    command: str
    budgets: Sequence[tuple[str, str]]  # each with what it trains and how long that takes
    files: list[tuple[str, str]]  # name and path, relative to the page
    measured: bool
    claims: list[tuple[Verdict, Claim]]
    counts: Counter[Verdict]
    columns: list[Column]
    rows: list[list[tuple[Column, str | list[Run]]]]
    images: list[Image]
    notes: list[str]


def shown(section: Section, links: Mapping[str, Links], folder: Path) -> Shown:
    """What the report shows of a section. `links` is keyed by run name. The page is in `folder`."""
    study, findings = section.study, section.findings
    claims = [(VERDICTS[claim.holds], claim) for claim in findings.claims]
    columns = [_column(str(name), cells) for name, cells in findings.table.items()]
    rows = [
        [
            (column, _runs(cell, links) if column.kind == "runs" else _text(cell))
            for column, cell in zip(columns, row, strict=True)
        ]
        for row in findings.table.itertuples(index=False, name=None)
    ]
    counts = Counter(verdict for verdict, _ in claims)
    images = [_image(picture, section.path(picture.file), folder) for picture in findings.pictures]
    files = [(file, section.path(file)) for file in section.files]
    measured = not findings.results.empty
    budgets = [
        (budget, "; ".join(words[budget] for words in (study.reaches, study.costs) if budget in words))
        for budget in BUDGETS
        if budget in study.reaches or budget in study.costs
    ]
    return Shown(
        study,
        section.command,
        budgets,
        files,
        measured,
        claims,
        counts,
        columns,
        rows,
        images,
        findings.notes,
    )


def _column(name: str, cells: "pd.Series[Any]") -> Column:
    if name == "runs":
        return Column(name, "runs")
    texts = [_text(cell) for cell in cells]
    numeric = any(map(str.strip, texts)) and all(map(NUMBER.fullmatch, texts))
    return Column(name, "number" if numeric else "text")


def _text(cell: object) -> str:
    return "" if pd.isna(cell) else str(cell)


def _runs(cell: object, links: Mapping[str, Links]) -> list[Run]:
    """The runs of a cell, which is a sequence of names or a string of names joined by semicolons."""
    names = cell if isinstance(cell, list | tuple) else _text(cell).split(";")
    found = []
    for name in filter(None, map(str.strip, names)):
        seed, place = SEED.search(name), links.get(name)
        urls = place and place._replace(folder=quote(place.folder))  # a folder may have spaces, # or %
        found.append(Run(name, f"seed {seed[1]}" if seed else name, urls))
    return found


def _image(picture: Picture, path: str, folder: Path) -> Image:
    file = folder / path
    content = file.read_bytes() if file.is_file() else b""
    if not content.startswith(PNG):
        return Image(picture, path, None, None, 0, 0)
    width, height = (round(pixels * CSS_DPI / DPI) for pixels in struct.unpack(">II", content[16:24]))
    vector = path.removesuffix(".png") + ".pdf"
    uri = f"data:image/png;base64,{base64.b64encode(content).decode()}"
    return Image(picture, path, vector if (folder / vector).is_file() else None, uri, width, height)
