"""What the documents tell a reader to write and to type, from their text."""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("*.md", "docs/*.md", "docs/extend/*.md", "experiments/*/*.md")
DOCUMENTS = sorted(path for pattern in FOLDERS for path in ROOT.glob(pattern))  # what is written to be read
# A paragraph that begins with a file's path, and the code below it.
FILE = re.compile(r"(?<=\n\n)`(\S+\.\w+)`[^\n]*(?:\n[^\n]+)*\n\n```\w+\n(.*?)```", re.DOTALL)
COMMANDS = re.compile(r"^```bash\n(.*?)```", re.MULTILINE | re.DOTALL)
BY_LINK = re.compile(r"^Write the files of \[[^\]]+\]\(([\w/]+\.md)#([\w-]+)\)", re.MULTILINE)


def files(text: str) -> list[tuple[str, str]]:
    """The path and the code of each file that a text has."""
    return FILE.findall(text)


def section(text: str, anchor: str) -> str:
    """The part of a document below the heading of an anchor."""
    parts = re.split(r"^## (.+)$", text, flags=re.MULTILINE)[1:]
    anchors = [title.lower().replace(" ", "-") for title in parts[::2]]
    return parts[1::2][anchors.index(anchor)]


def steps(document: Path) -> Iterator[tuple[str | None, str]]:
    """The files (path and code) and the commands (None and the lines) of a document, in its order.

    Files that another document has are written where a paragraph begins with "Write the files of" and a link.
    """
    text = document.read_text()
    found: list[tuple[int, list[tuple[str | None, str]]]] = [
        *((match.start(), [(match[1], match[2])]) for match in FILE.finditer(text)),
        *((match.start(), [(None, match[1])]) for match in COMMANDS.finditer(text)),
    ]
    for match in BY_LINK.finditer(text):
        linked = (document.parent / match[1]).read_text()
        found.append((match.start(), [*files(section(linked, match[2]))]))
    for _, each in sorted(found):
        yield from each


def copy_of_the_repository(folder: Path) -> Path:
    """A checkout without records, to write files into."""
    root = folder / "repository"
    root.mkdir()
    for name in ("src", "conf", "tests", "docs", "experiments"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("run.py", "pyproject.toml"):
        shutil.copy(ROOT / name, root)
    return root


def environment(root: Path) -> dict[str, str]:
    """That of a command in a copy of the repository."""
    path = os.pathsep.join([str(root / "src"), os.environ.get("PYTHONPATH", "")])
    return os.environ | {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
