"""Who may import whom, and the rules of style that a machine can hold us to.

A room is a module or package directly under `evidence`; docs/architecture.md draws them. The walk reads every
import statement, those inside functions and `if TYPE_CHECKING` too.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "src" / "evidence").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))

# What a room of the mathematics, or the loop that trains it, may know of the house. All may raise UserError.
MAY_IMPORT = {
    "errors": set(),
    "numerics": set(),
    "hmc": {"numerics"},
    "distributions": {"numerics"},
    "networks": {"numerics", "distributions"},
    "models": {"numerics", "distributions", "networks"},
    "reverse_conditional": {"numerics", "distributions", "hmc"},
    "objectives": {"numerics", "distributions", "models", "reverse_conditional"},
    "evaluation": {"numerics", "distributions", "models"},
    "training": {"models", "objectives", "evaluation", "data", "checkpoints"},
}
MATHEMATICS = MAY_IMPORT.keys() - {"errors", "training"}
FURNITURE = {"hydra", "omegaconf", "mlflow", "matplotlib", "rich"}

# Rooms and libraries that only these may import.
ONLY_IMPORTED_BY = {
    "evidence.experiment": {"command_line"},
    "mlflow": {"tracking"},
    "hydra": {"building", "command_line", "composing", "experiment", "sweeping"},
    "omegaconf": {"building", "command_line", "composing", "experiment", "sweeping"},
}

MAX_LINES = 300
MAX_DOCSTRING_LINES = 15


def imported(source: str, package: str) -> Iterator[str]:
    """The dotted names imported by the source of a module that lies in `package`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def all_imports() -> Iterator[tuple[Path, str, str]]:
    """Of each import in src: the file, its room, and what it imports, a library or `evidence.<room>`."""
    for path in SOURCES:
        parts = path.relative_to(ROOT / "src").with_suffix("").parts
        for name in imported(path.read_text(), ".".join(parts[:-1])):
            library, _, rest = name.partition(".")
            target = f"evidence.{rest.partition('.')[0]}" if library == "evidence" else library
            if target != f"evidence.{parts[1]}":
                yield path.relative_to(ROOT), parts[1], target


def public_definitions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.ClassDef]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node


def test_the_walk_sees_every_form_of_import():
    source = """
import torch.nn as nn, mlflow
from evidence import hmc
from evidence.networks import Critic
from . import numerics
from .files import fetch
from ..errors import UserError
def late():
    import evidence.experiment
"""
    assert set(imported(source, "evidence.data")) == {
        "torch.nn",
        "mlflow",
        "evidence.hmc",
        "evidence.networks.Critic",
        "evidence.data.numerics",
        "evidence.data.files.fetch",
        "evidence.errors.UserError",
        "evidence.experiment",
    }


def test_each_room_imports_only_what_it_may():
    assert [
        f"{path} imports {target}"
        for path, room, target in all_imports()
        if room in MAY_IMPORT
        and target.startswith("evidence.")
        and target.removeprefix("evidence.") not in MAY_IMPORT[room] | {"errors"}
    ] == []


def test_some_things_are_imported_by_few():
    assert [
        f"{path} imports {target}"
        for path, room, target in all_imports()
        if target in ONLY_IMPORTED_BY and room not in ONLY_IMPORTED_BY[target]
    ] == []


def test_the_mathematics_imports_no_furniture():
    assert [
        f"{path} imports {target}"
        for path, room, target in all_imports()
        if room in MATHEMATICS and target in FURNITURE
    ] == []


def test_no_file_is_longer_than_a_sitting():
    lengths = {path.relative_to(ROOT): len(path.read_text().splitlines()) for path in SOURCES + TESTS}
    assert {path: length for path, length in lengths.items() if length > MAX_LINES} == {}


def test_every_module_and_public_name_says_what_it_is():
    trees = {path.relative_to(ROOT): ast.parse(path.read_text()) for path in SOURCES}
    silent = [str(path) for path, tree in trees.items() if not ast.get_docstring(tree)]
    silent += [
        f"{path}: {node.name}"
        for path, tree in trees.items()
        for node in public_definitions(tree)
        if not ast.get_docstring(node)
    ]
    assert silent == []


def test_a_docstring_is_short():
    assert [
        f"{path.relative_to(ROOT)}: {node.name}"
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        and len((ast.get_docstring(node) or "").splitlines()) > MAX_DOCSTRING_LINES
    ] == []
