"""Writes the report: one self-contained page, the same in Markdown, and each study's figures as CSV."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from evidence.records import files
from evidence.report import markup
from evidence.report.shown import VERDICTS, Links, Section, shown

__all__ = ["TITLE", "Links", "Section", "write"]

TITLE = "Published claims, measured again"
TEMPLATES = {"report.md": "page.md.j2", "index.html": "page.html.j2"}


def write(
    sections: Sequence[Section],
    links: Mapping[str, Links],
    folder: Path,
    title: str = TITLE,
    command: str = "make report",
) -> Path:
    """Write the report into the folder and return the path of its page.

    The files are index.html, report.md, and the results of each section as CSV. `links` is keyed by run name. The
    other files of a section, and its pictures, are there already. The page is written last, so every file that it
    links to is there. `command` is what the page says to have been written by.

    Raises: OSError where a file cannot be written. Every file is then the old one or the new one, whole.
    """
    studies = [shown(section, links, folder) for section in sections]
    for section in sections:
        _write_results(section, folder / section.path(section.files[0]))
    folder.mkdir(parents=True, exist_ok=True)
    environment = _environment()
    date = datetime.now(UTC).date().isoformat()
    for name, template in TEMPLATES.items():
        content = environment.get_template(template).render(
            title=title, command=command, date=date, studies=studies, verdicts=list(VERDICTS.values())
        )
        files.write(folder / name, content.encode())
    return folder / "index.html"


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=select_autoescape(["html.j2"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"html": markup.html, "markdown": markup.markdown, "anchor": markup.anchor}
    return environment


def _write_results(section: Section, path: Path) -> None:
    """Write the study's results as CSV, or remove those of an earlier report where there are none now."""
    results = section.findings.results
    if results.empty:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write(path, results.to_csv(index=False, float_format=_number).encode())


def _number(value: float) -> str:
    """Six significant digits.

    A whole number is written in full, as pandas has a column of steps with gaps as floats.
    """
    return str(int(value)) if value.is_integer() else f"{value:.6g}"
