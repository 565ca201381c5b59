"""Hashes the part of this package that computes a run.

That is what the run's classes, the training loop and the evaluator import. The walk follows the modules of the
mathematics, at the top of the package and in the folders COMPUTING. A name that a package's `__init__` hands on
counts as the module that it comes from. Docstrings and messages do not count. So a new objective, or another text
of a message, does not change the code of other runs.
"""

import ast
import functools
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from evidence.runs.sources import imported

COMPUTING = ("objectives", "evaluation", "data")
# How a run starts, trains and computes, how it is scored, and on which images.
EVERY_RUN = (
    "evidence.parts",
    "evidence.stack",
    "evidence.execution",
    "evidence.evaluation.metrics",
    "evidence.data.subsets",
)


def package_hash(package: Path, names: Iterable[str]) -> str:
    """A hash of the modules that compute a run with the classes of these dotted names.

    Docstrings and messages do not count.
    """
    found: dict[str, str] = {}
    waiting = [*EVERY_RUN, *names]
    while waiting:
        module = _module(package, waiting.pop())
        if module and module not in found:
            found[module] = _read(package, module).code
            waiting += _read(package, module).origins.values()
    return _hash(found)


def hash_of_all(package: Path) -> str:
    """A hash of all modules of the mathematics: those at the top of the package and in the folders COMPUTING.

    Docstrings and messages do not count. Runs of unlike objectives have this hash in common.
    """
    paths = [*package.glob("*.py"), *(path for name in COMPUTING for path in (package / name).rglob("*.py"))]
    names = {".".join(["evidence", *path.relative_to(package).with_suffix("").parts]) for path in paths}
    return _hash({name: _read(package, name).code for name in names})


def _hash(codes: Mapping[str, str]) -> str:
    """One hash of the modules' code by their names."""
    text = "".join(f"{module}\0{codes[module]}\0" for module in sorted(codes))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class _Module:
    """The code of a module as this process first read it, and the names that it imports from the package."""

    def __init__(self, path: Path) -> None:
        tree = ast.parse(path.read_bytes())
        imports = imported(tree, "")
        self.origins = {local: name for local, name in imports if name.startswith("evidence.")}
        self.code = ast.unparse(_WithoutWords().visit(tree))


class _WithoutWords(ast.NodeTransformer):
    """Removes docstrings and the texts of error messages. A syntax tree has no comments."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        return ast.Pass() if isinstance(node.value, ast.Constant) else self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if isinstance(node.func, ast.Name) and node.func.id == "UserError":
            return ast.Call(node.func, [], [])
        return self.generic_visit(node)


@functools.cache
def _read(package: Path, module: str) -> _Module:
    return _Module(_path(package, module) or package / "__init__.py")


def _path(package: Path, module: str) -> Path | None:
    below = package.joinpath(*module.split(".")[1:])
    candidates = (below.with_suffix(".py"), below / "__init__.py")
    return next((path for path in candidates if path.is_file()), None)


def _module(package: Path, name: str) -> str | None:
    """The module that defines what the dotted name means. None outside of COMPUTING and the top of the package."""
    parts = name.split(".")
    while _path(package, ".".join(parts)) is None:
        parts.pop()
    module, rest = ".".join(parts), name.split(".")[len(parts) :]
    path = _path(package, module)
    if path is None or len(parts) < 2 or not (path.parent == package or parts[1] in COMPUTING):
        return None
    if path.name == "__init__.py" and rest and rest[0] in _read(package, module).origins:
        return _module(package, ".".join([_read(package, module).origins[rest[0]], *rest[1:]]))
    return module
