"""A line of text in HTML and in Markdown: code between backticks and URLs stand out, all else is literal."""

import re
from typing import Literal, NamedTuple

from markupsafe import Markup

MARKED = re.compile(r"(?<!`)`([^`]+)`(?!`)|(https?://[^\s<>]*[^\s<>.,;:)\]])")
# What Markdown reads as its own: marks anywhere, an HTML entity, and a list or a rule at the start of a line.
MARKS = re.compile(r"[\\`*\[\]<>|#~]|(?<![^\W_])_|_(?![^\W_])|&(?=#?\w+;)")
START = re.compile(r"^(\d*)([-+.)])(?=[\s-]|$)")
IN_HTML = {"text": "{}", "code": "<code>{}</code>", "link": '<a href="{0}">{0}</a>'}


class Piece(NamedTuple):
    """Some text of one kind."""

    kind: Literal["text", "code", "link"]
    text: str


def pieces(text: str) -> list[Piece]:
    """The text in pieces: what stands between backticks is code, a URL is a link."""
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
    r"""The text on one line in GitHub's Markdown. A backslash keeps every mark from acting.

    A table ends a cell at `|`, in code and links too. Outside a table, code shows `\|` with its backslash.
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
    """The fragment by which GitHub's Markdown links to a heading."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
