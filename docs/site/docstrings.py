"""Docstrings as the site shows them: their own lines and lists, and formulas in plain text, not as Markdown.

A docstring indents the items of a list, and the lines that go on with an item further. Only `code` is markup. The
docstring of a field is the comment beside it.
"""

import re

from griffe import Docstring, Extension, Object

ITEM = re.compile(r"^ {2}(?! )")  # the base indentation of an item
TERM = re.compile(r"^(\S+(?: \S+)*?) {2,}")  # the words of an item that stand apart
MARKUP = re.compile(r"([\\*_\[\]#>$])")
COMMENT = re.compile(r" {2}# (.+)$")
CODE = re.compile(r"(`[^`]+`)")


class PlainText(Extension):
    """Rewrites each docstring as Markdown that shows its text."""

    def on_object(self, *, obj: Object, **_: object) -> None:
        """Called for each module, class, function and attribute."""
        if obj.is_attribute and obj.docstring is None and (comment := COMMENT.search(obj.source)):
            obj.docstring = Docstring(comment[1], parent=obj)
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)


def as_markdown(text: str) -> str:
    """The text with list items for its indented lines, and all that Markdown would take as markup escaped."""
    lines, is_list = [], False
    for line in text.splitlines():
        item = ITEM.match(line) is not None
        if item != is_list and (item or line[:1].strip()):
            lines.append("")
        is_list = item or (is_list and not line[:1].strip())
        words = _escaped(line.strip())
        lines.append("- " + TERM.sub(r"**\1** ", words) if item else "    " * is_list + words)
    return "\n".join(lines)


def _escaped(line: str) -> str:
    """The line with all that Markdown would take as markup escaped, but for `code`."""
    parts = CODE.split(line)
    parts[::2] = [MARKUP.sub(r"\\\1", part).replace("<", "&lt;") for part in parts[::2]]
    return "".join(parts)
