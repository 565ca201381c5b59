"""The page and the Markdown say the same, whatever the texts of a study are."""

import random
from pathlib import Path
from urllib.parse import unquote

import pandas as pd
from markdown_it import MarkdownIt
from report_example import HOSTILE, UIVI, Reader

from evidence.report import markup, page
from evidence.report.markup import Piece
from evidence.report.page import Links, Section
from evidence.report.shown import PNG, VERDICTS
from evidence.report.study import Claim, Findings, Picture

SEED, RANDOM = 2026, 60
WHOLE = ["http://a.b/", "<b>", "&amp;", "&#65;", "](x)", "``", "---"]
MARKS = [*"\\`*_[]<>|#~&;!-+.=1:()/ \"'^ab\n", *WHOLE]
TEXTS = [
    "of one line",
    HOSTILE,
    "log q(z | x) and `a|b` and https://a.b/?c|d",
    "- 1. a list",
    "1. a list",
    "--- a rule",
    "# a heading, > a quote, &lt;b&gt; and &copy;",
    "_a_ __b__ c_d *e* **f** ~~g~~ ![h](i) [j](k)",
    "` a code ` and ``no code`` and a back\\slash \\| \\`",
]
GITHUB = MarkdownIt("commonmark", {"xhtmlOut": False}).enable(["table", "strikethrough"])
# Markdown puts these marks between a label and its text, where the page has space.
SPACED = str.maketrans(
    dict.fromkeys(":,()", " ") | {symbol: f" {symbol} " for _, symbol, _ in VERDICTS.values()}
)


def section(text: str) -> Section:
    """A study with this text in each of its fields that take one."""
    study = UIVI._replace(title=text, claim=text, source=text, costs={"quick": text})
    findings = Findings(
        results=pd.DataFrame({"nll": [1.0]}),
        table=pd.DataFrame({text: [text, "1.5"], "k": [5, None], "runs": ["one-s0-5a3c50; other", "gone"]}),
        claims=[Claim(text, holds, text) for holds in VERDICTS] + [Claim(text, None, "")],
        pictures=[Picture("nll.png", text), Picture("gone.png", text)],
        notes=[text, text],
    )
    return Section(study, findings, "make it")


def said(reader: Reader) -> list[str]:
    """The visible text of each study."""
    return [" ".join(text.translate(SPACED).split()) for text in reader.texts("section")]


def linked(reader: Reader) -> list[str]:
    """The targets of the links, with percent-encoded characters decoded."""
    return [unquote(str(each.attributes["href"])) for each in reader.find("a")]


def test_the_page_and_the_markdown_say_the_same(tmp_path: Path):
    drawn = random.Random(SEED)
    texts = TEXTS + ["a" + "".join(drawn.choices(MARKS, k=8)) for _ in range(RANDOM)]
    nothing = Findings(pd.DataFrame(), pd.DataFrame(), [], [], [])
    links = {"one-s0-5a3c50": Links("../one", "http://a.b/1"), "other": Links("../other", None)}
    (tmp_path / UIVI.name).mkdir()
    (tmp_path / UIVI.name / "nll.png").write_bytes(PNG + bytes(16))
    html = page.write(
        [*map(section, texts), Section(UIVI, nothing, "make uivi")], links, tmp_path
    ).read_text()
    ours = Reader(html[html.index("<main") : html.index("</body>")])
    _, *studies = GITHUB.render((tmp_path / "report.md").read_text()).split("<h2>")
    theirs = Reader("".join(f"<section><h2>{study}</section>" for study in studies))
    assert said(ours) == said(theirs)
    assert linked(ours) == linked(theirs)
    assert said(ours)[0].count("of one line") == 17  # the fields of `section` with the text


def test_code_and_urls_are_told_from_text():
    assert markup.pieces("see `k=5` (https://arxiv.org/abs/1509.00519), Table 1.") == [
        Piece("text", "see "),
        Piece("code", "k=5"),
        Piece("text", " ("),
        Piece("link", "https://arxiv.org/abs/1509.00519"),
        Piece("text", "), Table 1."),
    ]
    assert markup.pieces("") == []
