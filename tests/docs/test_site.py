"""The documentation site: built without a warning, and looked at in a browser without a network."""

import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from browser import CHROMIUM, Seen, Site, served
from documents import DOCUMENTS
from markdown_it import MarkdownIt

ROOT = Path(__file__).resolve().parents[2]
MISSING = [name for name in ("material", "mkdocstrings", "ziamath") if find_spec(name) is None]
SAME = ("li", "table", "td", "h3", "strong", "em", "pre")  # elements that the site adds nowhere
LOOK = r"""
const look = ({document: page, innerWidth, location, performance}) => ({
  width: innerWidth,
  overflow: page.documentElement.scrollWidth - page.documentElement.clientWidth,
  wide: [...page.querySelectorAll("article *")].filter(box => {
    for (let each = box; each.tagName !== "ARTICLE"; each = each.parentElement)
      if (getComputedStyle(each).overflowX !== "visible") return false
    return box.getBoundingClientRect().right > innerWidth
  }).map(box => box.outerHTML.slice(0, 80)),
  foreign: performance.getEntriesByType("resource").map(entry => entry.name)
    .filter(address => !address.startsWith(location.origin) && !address.startsWith("data:")),
  links: [...page.links].map(link => link.href),
  images: [...page.images].map(image => ({shown: image.naturalWidth > 0, alt: image.alt})),
  formulas: [...page.querySelectorAll("svg.tex")].map(box => ({
    tex: box.getAttribute("aria-label"), drawn: box.getBBox().width > 0 && box.querySelector("path") !== null,
  })),
  text: page.querySelector("article").innerText,
})"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"{', '.join(MISSING)} not installed: make docs installs them"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` builds it."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


def article(folder: Path, document: Path) -> str:
    """What the site has of a document, as HTML, without the results that it adds to a study."""
    name = "index.html" if document.name == "README.md" else f"{document.stem}.html"
    content = (folder / document.relative_to(ROOT)).with_name(name).read_text()
    return re.split('</article>|<h2 id="figures">|<h2 id="numbers">', content.partition("<article")[2])[0]


@pytest.mark.parametrize("document", sorted(DOCUMENTS), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_page_has_the_lists_tables_and_code_of_its_document(document: Path, folder: Path) -> None:
    """A repository's page and the site read Markdown differently."""
    meant = MarkdownIt("commonmark").enable("table").render(document.read_text())
    shown = article(folder, document)

    def counts(text: str) -> dict[str, int]:
        return {tag: len(re.findall(f"<{tag}[ >]", text)) for tag in SAME}

    formulas = len(re.findall("^```math", document.read_text(), re.MULTILINE))
    assert counts(shown) == counts(meant) | {"pre": counts(meant)["pre"] - formulas}


class Anchors(HTMLParser):
    """The identifiers on a page."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.found = {""}
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found |= {value for name, value in attrs if name == "id" and value}


@pytest.fixture(scope="module")
def site(folder: Path) -> Iterator[Site]:
    if CHROMIUM is None:
        pytest.skip("no chromium here: apt-get install chromium")
    with served(folder) as site:
        yield site


@pytest.fixture(scope="module")
def paths(folder: Path) -> list[str]:
    """Of all pages but that of a missing page, whose addresses are those of a server."""
    pages = {path.relative_to(folder).as_posix() for path in folder.rglob("*.html")}
    return sorted(pages - {"404.html"})


@pytest.fixture(scope="module")
def seen(site: Site, paths: list[str]) -> Seen:
    return site.look(LOOK, paths)


@pytest.fixture(scope="module")
def spoiled(site: Site, seen: Seen) -> Seen:
    """A page with every fault that the tests look for. It shows that each check finds its fault."""
    faults = """<img src="gone.png"><script>console.error("a script")</script><a href="gone.html">gone</a>
        <a href="#gone">gone</a><div style="width: 2000px">wide</div><svg class="tex"></svg>
        <script src="https://example.org/script.js"></script>"""
    content = (site.folder / "docs/objectives.html").read_text()
    (site.folder / "docs/spoiled.html").write_text(re.sub(r"(<article[^>]*>)", rf"\1{faults}", content))
    return site.look(LOOK, ["docs/spoiled.html"])


def layouts(seen: Seen) -> Iterator[dict[str, Any]]:
    for phone, desktop in seen.pages:
        assert (phone["width"], desktop["width"]) == (390, 1280)
        yield from (phone, desktop)


def dead(seen: Seen, site: Site) -> set[str]:
    """The links within the site that lead to no page, or to no place on it."""
    links = {link for layout in layouts(seen) for link in layout["links"] if link.startswith(site.address)}
    found = set()
    for link in links:
        path = site.folder / (unquote(urlsplit(link).path).lstrip("/") or "index.html")
        path = path / "index.html" if path.is_dir() else path
        if not path.is_file() or (
            path.suffix == ".html" and unquote(urlsplit(link).fragment) not in Anchors(path.read_text()).found
        ):
            found.add(link.removeprefix(f"{site.address}/"))
    return found


def test_no_page_is_wider_than_its_window(seen: Seen, spoiled: Seen, paths: list[str]) -> None:
    assert len(seen.pages) == len(paths) > 40
    found = zip((path for path in paths for _ in range(2)), layouts(seen), strict=True)
    assert {(path, *box["wide"]) for path, box in found if box["overflow"] > 0 or box["wide"]} == set()
    assert all(any("2000px" in box for box in layout["wide"]) for layout in layouts(spoiled))


def test_nothing_is_logged_and_nothing_asked_of_another_host(seen: Seen, spoiled: Seen) -> None:
    assert seen.console == []
    assert {path for path, status in seen.asked if status >= 400} == set()
    assert {address for layout in layouts(seen) for address in layout["foreign"]} == set()
    assert any("a script" in line for line in spoiled.console)
    assert all(layout["foreign"] == ["https://example.org/script.js"] for layout in layouts(spoiled))
    assert ("/docs/gone.png", 404) in spoiled.asked


def test_every_link_within_the_site_leads_somewhere(seen: Seen, spoiled: Seen, site: Site) -> None:
    assert dead(seen, site) == set()
    assert dead(spoiled, site) == {"docs/gone.html", "docs/spoiled.html#gone"}


def test_every_picture_is_shown(seen: Seen, spoiled: Seen) -> None:
    pictures = [picture for layout in layouts(seen) for picture in layout["images"]]
    assert len(pictures) > 40
    assert all(picture["shown"] and picture["alt"] for picture in pictures)
    assert not all(picture["shown"] for layout in layouts(spoiled) for picture in layout["images"])


API = {
    "library": ["evidence"],
    "objectives": ["evidence.objectives"],
    "models": ["evidence.models", "evidence.networks"],
    "distributions": ["evidence.distributions", "evidence.numerics", "evidence.streams"],
    "evaluation": ["evidence.evaluation"],
    "data": ["evidence.data"],
    "training": ["evidence.training", "evidence.parts", "evidence.hmc"],
    "report": ["evidence.report"],
}


def public(module: ModuleType) -> Iterator[Any]:
    """The classes and functions that a module offers: those of its __all__, or its own."""
    for name, value in inspect.getmembers(
        module, lambda each: inspect.isclass(each) or inspect.isfunction(each)
    ):
        own = value.__module__ == module.__name__ and not name.startswith("_")
        if name in module.__all__ if hasattr(module, "__all__") else own:
            yield value


@pytest.mark.parametrize("page", API)
def test_the_api_shows_every_docstring_as_it_stands(page: str, seen: Seen, paths: list[str]) -> None:
    def words(text: str) -> str:
        return " ".join(text.replace("`", "").split())

    shown = words(seen.pages[paths.index(f"docs/api/{page}.html")][1]["text"])
    found = [value for name in API[page] for value in public(import_module(name))]
    assert len(found) >= 2
    assert [value.__name__ for value in found if words(inspect.getdoc(value) or "") not in shown] == []


def test_every_formula_is_drawn(seen: Seen, spoiled: Seen, paths: list[str]) -> None:
    formulas = [formula for layout in layouts(seen) for formula in layout["formulas"]]
    assert all(formula["drawn"] and formula["tex"] for formula in formulas)
    document = (ROOT / "docs" / "objectives.md").read_text()
    meant = document.count("```math") + re.sub("`[^`\n]*`", "", document).count("$") // 2
    page = seen.pages[paths.index("docs/objectives.html")]
    assert [len(layout["formulas"]) for layout in page] == [meant, meant]
    assert all("$" not in layout["text"] and "\\" not in layout["text"] for layout in page)
    assert not all(formula["drawn"] for layout in layouts(spoiled) for formula in layout["formulas"])
