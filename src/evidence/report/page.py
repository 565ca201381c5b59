"""The report: one self-contained page, the same in Markdown, and each study's figures as CSV.

What is written is prepared once as `Shown`, strings and links without a markup; the template makes HTML of it,
`_markdown` Markdown.
"""

import base64
import re
import struct
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from evidence.display.plots import DPI
from evidence.records import files
from evidence.report.study import Claim, Findings, Picture, Study

TITLE = "Published claims, measured again"
CSS_DPI = 96  # CSS pixels an inch, so that a figure's letters are as large as those around it
PNG = b"\x89PNG\r\n\x1a\n"
NUMBER = re.compile(
    r"(?:[\d\s.,+\-\u2212\u2013\u2014±()/%\u00d7<>≤≥≈e]|of)*"
)  # 94.56 ± 0.25, 13 of 3280, 1.2e-3, —
SEED = re.compile(r"-s(\d+)-[0-9a-f]+(?:-\d+)?$")  # the end of a run's name
MARKED = re.compile(r"`([^`]+)`|(https?://[^\s<>]*[^\s<>.,;:)\]])")


class Section(NamedTuple):
    """A study and what it found."""

    study: Study
    findings: Findings


class Links(NamedTuple):
    """Where a run is: its folder, relative to the page, and its page in MLflow if a server is named."""

    folder: str
    url: str | None


class Verdict(NamedTuple):
    """How a claim fares, told by a word and a symbol, so that colour need not."""

    word: str
    symbol: str
    style: str


VERDICTS = {
    True: Verdict("holds", "✓", "holds"),
    False: Verdict("does not hold", "✗", "fails"),
    None: Verdict("not measured", "○", "open"),
}


class Run(NamedTuple):
    """A run's name, what its link says (its seed), and where it leads; None where the run is not at hand."""

    name: str
    label: str
    links: Links | None


class Column(NamedTuple):
    """Of a table: its heading, and what stands under it."""

    name: str
    kind: Literal["number", "text", "runs"]


class Image(NamedTuple):
    """A picture as a data URI with its size in CSS pixels; None where there is no such PNG."""

    picture: Picture
    uri: str | None
    width: int
    height: int


class Piece(NamedTuple):
    """Some text of one kind."""

    kind: Literal["text", "code", "link"]
    text: str


class Shown(NamedTuple):
    """What the page shows of a study."""

    study: Study
    measured: bool
    claims: list[tuple[Verdict, Claim]]
    counts: Counter[Verdict]
    columns: list[Column]
    rows: list[list[str | list[Run]]]
    images: list[Image]
    notes: list[str]


def write(sections: Sequence[Section], links: Mapping[str, Links], folder: Path) -> Path:
    """folder/index.html, whose path is returned, report.md, and for each measured study <its name>/results.csv.

    `links` has the runs by the names of their folders. The studies' pictures lie in folder/<study's name>/. The page
    is written last, so whatever it links to is there.

    Raises: OSError where a file cannot be written; each is then as it was, or whole.
    """
    shown = [_shown(section, links, folder) for section in sections]
    for study, findings in sections:
        path = folder / study.name / "results.csv"
        if len(findings.results):
            path.parent.mkdir(parents=True, exist_ok=True)
            files.write(path, findings.results.to_csv(index=False, float_format=_number).encode())
        else:
            path.unlink(missing_ok=True)  # of a report before
    folder.mkdir(parents=True, exist_ok=True)
    date = datetime.now(UTC).date().isoformat()
    files.write(folder / "report.md", "\n".join(_markdown(shown, date)).encode())
    page = folder / "index.html"
    files.write(page, _html(shown, date).encode())
    return page


def pieces(text: str) -> list[Piece]:
    """Text, with what stands between backticks as code, and each URL as a link."""
    found, end = [], 0
    for match in MARKED.finditer(text):
        found.append(Piece("text", text[end : match.start()]))
        found.append(Piece("code", match[1]) if match[1] else Piece("link", match[2]))
        end = match.end()
    return [piece for piece in (*found, Piece("text", text[end:])) if piece.text]


def _html(shown: list[Shown], date: str) -> str:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["pieces"] = pieces
    template = environment.get_template("page.html.j2")
    return template.render(title=TITLE, date=date, studies=shown, verdicts=list(VERDICTS.values()))


def _shown(section: Section, links: Mapping[str, Links], folder: Path) -> Shown:
    study, findings = section
    claims = [(VERDICTS[claim.holds], claim) for claim in findings.claims]
    columns = [_column(str(name), cells) for name, cells in findings.table.items()]
    rows = [
        [
            _runs(cell, links) if column.kind == "runs" else _text(cell)
            for column, cell in zip(columns, row, strict=True)
        ]
        for row in findings.table.itertuples(index=False, name=None)
    ]
    counts = Counter(verdict for verdict, _ in claims)
    images = [_image(picture, folder / study.name) for picture in findings.pictures]
    return Shown(study, len(findings.results) > 0, claims, counts, columns, rows, images, findings.notes)


def _column(name: str, cells: "pd.Series[Any]") -> Column:
    if name == "runs":
        return Column(name, "runs")
    texts = [_text(cell) for cell in cells]
    numeric = any(map(str.strip, texts)) and all(map(NUMBER.fullmatch, texts))
    return Column(name, "number" if numeric else "text")


def _text(cell: object) -> str:
    return "" if pd.isna(cell) else str(cell)


def _runs(cell: object, links: Mapping[str, Links]) -> list[Run]:
    """Of a sequence of names, or of names joined by semicolons."""
    names = cell if isinstance(cell, list | tuple) else _text(cell).split(";")
    found = []
    for name in filter(None, map(str.strip, names)):
        seed = SEED.search(name)
        found.append(Run(name, f"seed {seed[1]}" if seed else name, links.get(name)))
    return found


def _image(picture: Picture, folder: Path) -> Image:
    path = folder / picture.file
    content = path.read_bytes() if path.is_file() else b""
    if not content.startswith(PNG):
        return Image(picture, None, 0, 0)
    width, height = (round(pixels * CSS_DPI / DPI) for pixels in struct.unpack(">II", content[16:24]))
    return Image(picture, f"data:image/png;base64,{base64.b64encode(content).decode()}", width, height)


def _number(value: float) -> str:
    """Six digits, but whole numbers in full: a column of steps with gaps is one of floats."""
    return str(int(value)) if value.is_integer() else f"{value:.6g}"


def _markdown(shown: list[Shown], date: str) -> Iterator[str]:
    """Line by line."""
    yield f"# {TITLE}\n\nWritten on {date} by `make report`; [the same as a page](index.html).\n"
    yield _row(["study", *(f"{verdict.symbol} {verdict.word}" for verdict in VERDICTS.values())])
    yield "|---|" + "--:|" * len(VERDICTS)
    for study, _, _, counts, *_ in shown:
        anchor = re.sub(r"[^\w\- ]", "", study.title.lower()).replace(" ", "-")
        yield _row(
            [
                f"[{_escaped(study.title)}](#{anchor})",
                *(str(counts[verdict]) for verdict in VERDICTS.values()),
            ]
        )
    for study, measured, claims, _, columns, rows, images, notes in shown:
        yield f"\n## {_escaped(study.title)}\n\n{_escaped(study.claim)}\n"
        yield f"- Source: {_escaped(study.source)}\n- Command: `make {study.target}`"
        for budget, cost in study.costs.items():
            yield f"- `BUDGET={budget}`: {_escaped(cost)}"
        if measured:
            yield f"- Data: [results.csv]({study.name}/results.csv)"
        else:
            yield f"\nNo results yet: `make {study.target}` trains and measures what is missing."
        if claims:
            yield "\n### Claims\n"
        for verdict, claim in claims:
            yield f"- {verdict.symbol} **{verdict.word}**: {_escaped(claim.statement)}"
            if claim.evidence:
                yield f"  - {_escaped(claim.evidence)}"
        if rows:
            yield "\n### Table\n"
            yield _row([_escaped(column.name) for column in columns])
            yield "|" + "".join("--:|" if column.kind == "number" else "---|" for column in columns)
            for row in rows:
                yield _row([_escaped(cell) if isinstance(cell, str) else _linked(cell) for cell in row])
        if images:
            yield "\n### Figures"
        for image in images:
            if image.uri:
                yield f"\n![{_escaped(image.picture.caption)}]({study.name}/{image.picture.file})\n"
                yield _escaped(image.picture.caption)
            else:
                yield f"\nThe picture {_escaped(image.picture.file)} is not there: {_escaped(image.picture.caption)}"
        if notes:
            yield "\n### Notes\n"
        for note in notes:
            yield f"- {_escaped(note)}"
    yield ""


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _linked(runs: list[Run]) -> str:
    found = []
    for run in runs:
        label = _escaped(run.label)
        if run.links:
            label = f"[{label}]({run.links.folder})"
            label += f" ([MLflow]({run.links.url}))" if run.links.url else ""
        found.append(label)
    return ", ".join(found)


def _escaped(text: str) -> str:
    """Of one line, with nothing but code and URLs that Markdown would read as its own."""
    found = ""
    for kind, piece in pieces(" ".join(text.split())):
        plain = re.sub(r"([\\`*\[\]<>|#~]|\b_|_\b)", r"\\\1", piece)
        found += {"text": plain, "code": f"`{piece}`".replace("|", r"\|"), "link": f"<{piece}>"}[kind]
    return found
