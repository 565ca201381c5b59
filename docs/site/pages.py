"""The pages of the site: the documents where they lie in the repository, and the source files that they name.

A page has the path of its document, so that a link works on the site as it does in the repository. A link to a
source file or a folder leads to a page that shows it.
"""

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import studies
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = ("*.md", "docs/*.md", "docs/api/*.md", "docs/extend/*.md", "experiments/*/*.md")
SHOWN = (  # as they stand
    "docs/site/site.css",
    *(f"{folder}/*/*.{kind}" for folder in ("docs", "experiments") for kind in ("png", "svg", "pdf", "csv")),
)
LINK = re.compile(r"(\]\()([^)#\s:]+)((?:#[^)\s]*)?\))")  # of a path, its parts before and after
LANGUAGES = {".py": "python", ".yaml": "yaml", ".yml": "yaml", ".toml": "toml"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The theme's files, the documents with their pictures and tables, and a page for each source they link to."""
    theme = [file for file in files if file.src_dir != config.docs_dir]
    documents, shown = _found(DOCUMENTS), _found(SHOWN)
    own = [
        File(_name(path), str(ROOT), config.site_dir, use_directory_urls=False) for path in documents + shown
    ]
    sources = {target for path in documents for target in _targets(path)}
    for name in sorted(sources - {file.src_uri for file in own}):
        page = File.generated(config, f"{name}.md", content=_source(ROOT / name))
        page.inclusion = InclusionLevel.NOT_IN_NAV
        own.append(page)
    return Files(theme + own)


def on_page_markdown(markdown: str, page: Page, files: Files, **_: object) -> str:
    """The text with its links to sources led to their pages, and a study's results at its end.

    A page outside of the sections needs no list of its section's pages.
    """

    def led(link: re.Match[str]) -> str:
        name = _resolved(link[2], page.file.src_uri)
        if files.get_file_from_path(name) is None and files.get_file_from_path(f"{name}.md") is not None:
            return f"{link[1]}{link[2].rstrip('/')}.md{link[3]}"
        return link[0]

    if page.parent is None:
        page.meta["hide"] = ["navigation"]
    folder = PurePosixPath(page.file.src_uri).parent
    if folder.parent.name == "experiments" and page.file.name == "index":
        markdown += studies.results(ROOT / folder, markdown)
    return LINK.sub(led, markdown)


def _found(patterns: tuple[str, ...]) -> list[Path]:
    return [path for pattern in patterns for path in sorted(ROOT.glob(pattern))]


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _resolved(link: str, document: str) -> str:
    """The path in the repository of a link in a document."""
    path = (ROOT / document).parent.joinpath(link).resolve()
    return _name(path) if path.is_relative_to(ROOT) else link


def _targets(document: Path) -> Iterator[str]:
    """What a document links to that the repository has."""
    for link in LINK.finditer(document.read_text()):
        name = _resolved(link[2], _name(document))
        if (ROOT / name).exists():
            yield name


def _source(path: Path) -> str:
    """The page of a source file, or of a folder's sources. It is not searched."""
    head = f"---\nsearch:\n  exclude: true\n---\n\n# {_name(path)}\n\n"
    if path.is_dir():
        parts = [each for each in sorted(path.iterdir()) if each.suffix in LANGUAGES]
        return head + "\n\n".join(f"## {each.name}\n\n{_code(each)}" for each in parts)
    return head + _code(path)


def _code(path: Path) -> str:
    return f"``````{LANGUAGES.get(path.suffix, 'text')}\n{path.read_text()}``````\n"
