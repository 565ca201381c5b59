"""Writes a text in HTML and in Markdown. Backticks enclose code, a URL is a link, and all else is literal."""

import re
from typing import Literal, NamedTuple

from markupsafe import Markup

MARKED = re.compile(r"(?<!`)`([^`]+)`(?!`)|(https?://[^\s<>]*[^\s<>.,;:)\]])")
# What Markdown interprets anywhere: these marks, an underscore at the edge of a word, an HTML entity.
MARKS = re.compile(r"[\\`*\[\]<>|#~]|(?<![^\W_])_|_(?![^\W_])|&(?=#?\w+;)")
# What it interprets at the start of a line: a list item, a rule.
START = re.compile(r"^(\d*)([-+.)])(?=[\s-]|$)")
IN_HTML = {"text": "{}", "code": "<code>{}</code>", "link": '<a href="{0}">{0}</a>'}


class Piece(NamedTuple):
    """A part of a text, all of one kind."""

    kind: Literal["text", "code", "link"]
    text: str


def pieces(text: str) -> list[Piece]:
    """The parts of the text, in order, without the backticks."""
    found, end = [], 0
    for match in MARKED.finditer(text):
        found.append(Piece("text", text[end : match.start()]))
        found.append(Piece("code", match[1].strip()) if match[1] else Piece("link", match[2]))
        end = match.end()
    return [piece for piece in (*found, Piece("text", text[end:])) if piece.text]


def html(text: str) -> Markup:
    """The text in HTML."""
    return Markup("").join(Markup(IN_HTML[kind]).format(piece) for kind, piece in pieces(text))


def markdown(text: str, in_table: bool = False) -> str:
    r"""The text on one line of GitHub's Markdown, with a backslash before every mark that is to be literal.

    In a table every `|` needs a backslash, also in code and links. Elsewhere code would show that backslash.
    """
    pipe = r"\|" if in_table else "|"
    found = ""
    for kind, piece in pieces(" ".join(text.split())):
        if kind == "text":
            found += MARKS.sub(r"\\\g<0>", piece)
        else:
            found += (f"`{piece}`" if kind == "code" else f"<{piece}>").replace("|", pipe)
    return START.sub(r"\1\\\2", found)


def anchor(title: str) -> str:
    """The fragment of the URL that GitHub gives to a heading."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
