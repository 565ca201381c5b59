"""The report's page in a real browser: Chromium, as Debian packages it."""

import itertools
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from browser import CHROMIUM, served
from report_example import SERVER, example

from evidence.report import page

CONTRAST = 4.5  # of text, WCAG 2.2 AA

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt-get install chromium")

LOOK = """
const rgba = colour => { const [r, g, b, a = 1] = colour.match(/[\\d.]+/g).map(Number); return {rgb: [r, g, b], a} }
const luminance = ({rgb}) => {
  const [r, g, b] = rgb.map(c => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
  return 0.2126 * r + 0.7152 * g + 0.0722 * b
}
const ground = element => {
  for (; element; element = element.parentElement) {
    const colour = rgba(getComputedStyle(element).backgroundColor)
    if (colour.a === 1) return colour
  }
  return rgba("rgb(255, 255, 255)")
}
const contrast = element => {
  const [low, high] = [rgba(getComputedStyle(element).color), ground(element)].map(luminance).sort((a, b) => a - b)
  return (high + 0.05) / (low + 0.05)
}
const written = element => [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim())
const look = ({document: page, innerWidth}) => ({
  title: page.title,
  text: page.body.innerText,
  width: innerWidth,
  overflow: page.documentElement.scrollWidth - page.documentElement.clientWidth,
  scrolling: [...page.querySelectorAll(".scroll")].map(box => box.scrollWidth > box.clientWidth),
  links: [...page.links].map(link => link.href),
  dead: [...page.links].filter(link => link.getAttribute("href")[0] === "#" && !page.querySelector(link.hash)).length,
  images: [...page.images].map(image => ({shown: image.naturalWidth > 0, alt: image.alt})),
  headings: [...page.querySelectorAll("h1, h2, h3, h4, h5, h6")].map(heading => Number(heading.tagName[1])),
  contrast: Math.min(...[...page.body.querySelectorAll("*")].filter(written).map(contrast)),
})
"""


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("outputs")
    example(folder)
    return folder


class Seen(NamedTuple):
    """The layouts on a phone and on a desktop, the lines on the console, and the requests with their status."""

    phone: dict[str, Any]
    desktop: dict[str, Any]
    console: list[str]
    asked: list[tuple[str, int]]


@pytest.fixture(scope="module")
def browse(outputs: Path) -> Iterator[Callable[..., Seen]]:
    """Opens a page of the server on a phone and on a desktop."""
    with served(outputs) as site:

        def look(path: str, *options: str) -> Seen:
            found = site.look(LOOK, [path], *options)
            return Seen(*found.pages[0], found.console, found.asked)

        yield look


@pytest.fixture(scope="module")
def seen(browse: Callable[..., Seen]) -> Seen:
    return browse("/report/index.html")


@pytest.fixture(scope="module")
def spoiled(outputs: Path, browse: Callable[..., Seen]) -> Seen:
    """A page with every fault that the tests look for. It shows that each check finds its fault."""
    faults = """<main><img src="gone.png"><script>console.error("a script")</script><a href="gone.csv">gone</a>
        <a href="#gone">gone</a><h6 style="color: #999">pale</h6><div style="width: 2000px">wide</div>"""
    policy = r'<meta http-equiv="Content-Security-Policy"[^>]*>'
    content = (outputs / "report" / "index.html").read_text()
    found = re.sub(policy, "", re.sub(r"<main[^>]*>", lambda _: faults, content))
    (outputs / "report" / "spoiled.html").write_text(found)
    return browse("/report/spoiled.html")


def broken(links: list[str]) -> set[str]:
    """The last parts of those links that the test's own server answers with an error."""
    found = set()
    for link in links:
        if not link.startswith((SERVER, "https://arxiv.org/")):
            try:
                urllib.request.urlopen(link).close()
            except urllib.error.HTTPError as error:
                error.close()
                found.add(link.rpartition("/")[2])
    return found


def test_the_page_renders(seen: Seen):
    assert seen.desktop["title"] == page.TITLE
    for words in ("The IWAE's NLL falls with k.", "90.85 ± 0.06", "does not hold", "make uivi"):
        assert words in seen.desktop["text"]
    assert [image["shown"] for image in seen.desktop["images"]] == [True]
    assert all(image["alt"] for image in seen.desktop["images"])


def test_it_logs_nothing_and_asks_for_nothing_but_itself(seen: Seen, spoiled: Seen):
    assert seen.console == []
    assert {path for path, _ in seen.asked} == {"/report/index.html"}
    assert any("a script" in line for line in spoiled.console)
    assert ("/report/gone.png", 404) in spoiled.asked


def test_injected_content_is_neither_run_nor_fetched(outputs: Path, browse: Callable[..., Seen]):
    content = (outputs / "report" / "index.html").read_text()
    injected = '<main><script>document.title = "injected"</script><img src="gone.png">'
    (outputs / "report" / "injected.html").write_text(re.sub(r"<main[^>]*>", injected, content))
    seen = browse("/report/injected.html")
    assert seen.desktop["title"] == page.TITLE
    assert {path for path, _ in seen.asked} == {"/report/injected.html"}
    assert {"script", "image"} <= {word for line in seen.console for word in line.split()}


def test_every_link_leads_somewhere(seen: Seen, spoiled: Seen):
    links = seen.desktop["links"]
    assert broken(links) == set()
    assert seen.desktop["dead"] == 0
    assert sum(link.startswith(SERVER) for link in links) == 18
    assert (
        sum("mnist-s" in link and not link.startswith(SERVER) for link in links) == 35
    )  # of 36: one run is gone
    assert broken(spoiled.desktop["links"]) == {"gone.csv"}
    assert spoiled.desktop["dead"] == 2  # that link, and the one to <main>, whose id is gone


def test_only_tables_scroll_sideways(seen: Seen, spoiled: Seen):
    assert (seen.phone["width"], seen.desktop["width"]) == (390, 1280)
    assert (seen.phone["overflow"], seen.desktop["overflow"]) == (0, 0)
    assert seen.phone["scrolling"] == [False, True]  # the overview, and Table 1 with its 14 columns
    assert seen.desktop["scrolling"] == [False, False]
    assert spoiled.phone["overflow"] > 1000


def test_headings_go_down_one_level_at_a_time(seen: Seen, spoiled: Seen):
    def skips(levels: list[int]) -> bool:
        return any(below > above + 1 for above, below in itertools.pairwise([0, *levels]))

    assert seen.desktop["headings"].count(1) == 1
    assert not skips(seen.desktop["headings"])
    assert skips(spoiled.desktop["headings"])


def test_text_has_enough_contrast_in_both_modes(seen: Seen, spoiled: Seen, browse: Callable[..., Seen]):
    dark = browse("/report/index.html", "--force-dark-mode")
    assert dark.desktop["contrast"] != seen.desktop["contrast"]
    assert min(seen.desktop["contrast"], dark.desktop["contrast"]) >= CONTRAST
    assert spoiled.desktop["contrast"] < CONTRAST
