"""The report as files: what it says, in HTML, Markdown and CSV."""

import base64
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from report_example import FOUND, HOSTILE, NOTHING, SERVER, UIVI, Reader, example

from evidence.records import files
from evidence.report import page
from evidence.report.page import Links, Section
from evidence.report.study import Claim, Findings, Picture

ONE = "../a%20%2850%25%29%20%231"  # the folder "../a (50%) #1" as a URL


def written(folder: Path, links: dict[str, Links] | None = None, **found: Any) -> tuple[Reader, str]:
    """Write a report of one study with these findings; return its page and its Markdown."""
    findings = Findings(NOTHING, NOTHING, [], [], [])._replace(**found)
    path = page.write([Section(UIVI, findings, "make uivi")], links or {}, folder)
    return Reader(path.read_text()), (folder / "report.md").read_text()


def test_a_claim_stands_beside_its_verdict_and_its_evidence(tmp_path: Path):
    claims = [Claim("first", True, "1 nat"), Claim("second", False, "2 nats"), Claim("third", None, "")]
    html, markdown = written(tmp_path, claims=claims)
    assert html.texts("p", "verdict") == ["✓holds", "✗does not hold", "○not decided"]
    assert html.texts("p", "evidence") == ["1 nat", "2 nats"]
    assert "- ✗ **does not hold**: second\n  - 2 nats\n- ○ **not decided**: third\n" in markdown


def test_the_overview_counts_verdicts(tmp_path: Path):
    holds = [True, np.True_, False, None, np.bool_(False), True]  # pandas' comparisons give numpy's booleans
    html, markdown = written(tmp_path, claims=[Claim("", each, "") for each in holds])
    assert html.texts("td", "number") == ["3", "2", "1"]
    assert "[Explicit and implicit posteriors](#explicit-and-implicit-posteriors) | 3 | 2 | 1 |" in markdown


def test_markup_in_a_text_is_shown_and_not_obeyed(tmp_path: Path):
    html, markdown = written(
        tmp_path,
        results=pd.DataFrame({"a": [1]}),
        table=pd.DataFrame({HOSTILE: [HOSTILE], "runs": [HOSTILE]}),
        claims=[Claim(HOSTILE, True, HOSTILE)],
        pictures=[Picture(HOSTILE, HOSTILE)],
        notes=[HOSTILE],
    )
    assert not html.find("script") + html.find("img")
    for tag, kind in (("p", "evidence"), ("th", "text"), ("span", None), ("code", None)):
        assert HOSTILE in html.texts(tag, kind)
    lines = [line for line in markdown.splitlines() if "alert" in line]
    assert len(lines) == 6
    for line in lines:
        assert not re.search(r"(?<!\\)[<>]|(?<!\\)\]\(", line)
        assert not line.startswith("| ") or len(re.findall(r"(?<!\\)\|", line)) == 3


def test_the_page_needs_nothing_but_itself(tmp_path: Path):
    content = example(tmp_path).read_text()
    html = Reader(content)
    assert not {"script", "iframe", "object"} & {element.tag for element in html.elements}
    (source,) = [element.attributes["src"] for element in html.elements if "src" in element.attributes]
    encoded = str(source).removeprefix("data:image/png;base64,")
    assert base64.b64decode(encoded) == (tmp_path / "report" / "iwae_table1" / "nll.png").read_bytes()
    assert [element.attributes["href"] for element in html.find("link")] == ["data:,"]
    assert "url(" not in content
    assert "@import" not in content


def test_a_picture_is_as_large_as_it_was_drawn(tmp_path: Path):
    (image,) = Reader(example(tmp_path).read_text()).find("img")
    assert (image.attributes["width"], image.attributes["height"]) == ("614", "365")  # 6.4 x 3.8 inches


@pytest.mark.parametrize("content", [None, b"", b"half a picture"])
def test_a_missing_or_broken_picture_is_named(tmp_path: Path, content: bytes | None):
    if content is not None:
        (tmp_path / "uivi_vae").mkdir()
        (tmp_path / "uivi_vae" / "nll.png").write_bytes(content)
    html, markdown = written(tmp_path, pictures=[Picture("nll.png", "NLL by k")])
    assert "The picture nll.png is not there: NLL by k" in html.texts("p", "nothing")
    assert not html.find("img")
    assert "\nThe picture nll.png is not there: NLL by k" in markdown


@pytest.mark.parametrize("runs", ["one-s0-5a3c50; other;gone", ["one-s0-5a3c50", "other", "gone"]])
def test_runs_lead_to_their_folders_and_pages(tmp_path: Path, runs: str | list[str]):
    links = {"one-s0-5a3c50": Links("../a (50%) #1", f"{SERVER}1"), "other": Links("../other", None)}
    html, markdown = written(tmp_path, links, table=pd.DataFrame({"k": ["5"], "runs": [runs]}))
    hrefs = {str(each.attributes["href"]): each.text for each in html.find("a")}
    assert hrefs.items() >= {(ONE, "seed 0"), (f"{SERVER}1", "MLflow"), ("../other", "other")}
    assert html.texts("li")[-3:] == ["seed 0 MLflow", "other", "gone"]
    assert f"| 5 | [seed 0]({ONE}) ([MLflow]({SERVER}1)), [other](../other), gone |" in markdown


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["94.56 ± 0.25", ""], "number"),
        (["25 ± 1 + 14 ± 1", "16 + 5"], "number"),
        (["+9.60", "\N{MINUS SIGN}0.16"], "number"),
        ([5, None], "number"),
        (["13 of 3280", "\N{EM DASH}"], "number"),
        (["13 of 3280 passes", "1"], "text"),
        (["", None], "text"),
        (["VAE", "IWAE"], "text"),
    ],
)
def test_a_column_of_numbers_is_aligned_to_the_right(tmp_path: Path, cells: list[object], kind: str):
    table = pd.DataFrame({"name": ["a", "b"], "cell": cells}, dtype=object)
    html, markdown = written(tmp_path, table=table)
    head = next(each for each in html.find("th") if each.text == "cell")
    assert (head.attributes["scope"], head.classes) == ("col", [kind])
    assert [each.classes for each in html.find("td")[-2:]] == [[kind], [kind]]
    assert f"| name | cell |\n|---|{'--:' if kind == 'number' else '---'}|" in markdown
    assert "None" not in markdown
    assert "nan" not in markdown


def test_results_keep_six_digits_and_whole_numbers(tmp_path: Path):
    results = pd.DataFrame({"nll": [94.123456789, np.nan], "steps": [2_580_000.0, np.nan], "k": [1, 50]})
    html, _ = written(tmp_path, results=results)
    assert (tmp_path / "uivi_vae" / "results.csv").read_text() == "nll,steps,k\n94.1235,2580000,1\n,,50\n"
    assert "uivi_vae/results.csv" in [each.attributes["href"] for each in html.find("a")]


def test_a_study_without_results_names_its_command(tmp_path: Path):
    html, markdown = written(tmp_path)
    words = "No results yet: {} trains and measures what is missing."
    assert html.texts("p", "nothing") == [words.format("make uivi")]
    assert words.format("`make uivi`") in markdown
    assert {path.name for path in tmp_path.rglob("*")} == {"report.md", "index.html"}


def test_a_report_of_nothing_is_written(tmp_path: Path):
    assert Reader(page.write([], {}, tmp_path / "new" / "report").read_text()).texts("h1") == [page.TITLE]


def test_the_markdown_links_to_what_is_there(tmp_path: Path):
    folder = example(tmp_path).parent
    links = re.findall(r"\]\(([^)#:]+)\)", (folder / "report.md").read_text())
    assert {"index.html", "iwae_table1/nll.png", "iwae_table1/results.csv"} < set(links)
    assert [link for link in links if not (folder / link).exists()] == []


def test_a_page_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    before = example(tmp_path).read_text()
    order = []

    def full(path: Path, *chunks: bytes) -> None:
        order.append(path.name)
        if path.name == "index.html":
            raise OSError("no space left")

    monkeypatch.setattr(files, "write", full)
    with pytest.raises(OSError, match="no space left"):
        page.write([Section(UIVI, FOUND, "make uivi")], {}, tmp_path / "report")
    assert order == ["report.md", "index.html"]
    assert (tmp_path / "report" / "index.html").read_text() == before
