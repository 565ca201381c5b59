"""Finds the files of a user's module: the module itself, and all that it imports outside of installed packages.

The imports are read from the source, and nothing is run. Imports inside functions count, and so do texts that name
a module. A module that this process has loaded counts as it was when it was loaded, even if its file has changed
since.
"""

import ast
import hashlib
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec, resolve_name
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

INSTALLED = {"site-packages", "dist-packages"}  # the folders that packages are installed into
STANDARD = tuple({sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")})


class Sources(NamedTuple):
    """The files and the packages that modules are made of.

    hashes: of each file, by the module's name.
    installed: top-level names of the installed packages that they import.
    of_package: the dotted names that they import from this package.
    """

    hashes: dict[str, str]
    installed: set[str]
    of_package: set[str]


def sources(names: Iterable[str]) -> Sources:
    """The sources of the modules in these dotted names, and of all that they import.

    A name may be of a module or of something in it.
    """
    found = Sources({}, set(), set())
    waiting = [module for name in names for module in _prefixes(name)]
    seen: set[str] = set()
    guesses: set[str] = set()  # texts: the name of an installed package may mean something else
    while waiting:
        name = waiting.pop()
        top = name.partition(".")[0]
        if name in seen or top == "evidence":
            continue
        seen.add(name)
        spec = _spec(name)
        if spec is None or spec.origin is None or not spec.has_location:
            continue  # nothing of that name, or a folder of modules without a file of its own
        path = Path(spec.origin)
        if INSTALLED & set(path.parts):
            if name not in guesses:
                found.installed.add(top)
            continue
        if spec.origin.startswith(STANDARD):
            continue
        package = name if spec.submodule_search_locations is not None else name.rpartition(".")[0]
        source = _source(name, path, package)
        found.hashes[name] = source.digest
        found.of_package.update(each for each in source.imports if each.startswith("evidence."))
        imports = [module for each in source.imports for module in _prefixes(each)]
        texts = {module for each in source.texts for module in _prefixes(each)}
        guesses |= texts - seen - set(imports)
        guesses -= set(imports)
        waiting = [*texts, *waiting, *imports]  # imports are popped first, and are no guesses
    return found


def is_own(target: str) -> bool:
    """Whether a `_target_` is the user's own, and neither this package's nor torch's."""
    return target.partition(".")[0] not in ("evidence", "torch")


class _Source(NamedTuple):
    digest: str
    imports: list[str]
    texts: list[str]


_known: dict[str, tuple[ModuleType | None, _Source]] = {}  # with what was loaded at the time


def _source(name: str, path: Path, package: str) -> _Source:
    loaded = sys.modules.get(name)
    if loaded is not None and name in _known and _known[name][0] in (None, loaded):
        source = _known[name][1]
    else:
        content = path.read_bytes()
        tree = _parsed(content) if path.suffix == ".py" else ast.Module([], [])
        imports, texts = [name for _, name in imported(tree, package)], list(_texts(tree, package))
        source = _Source(hashlib.sha256(content).hexdigest()[:16], imports, texts)
    _known[name] = loaded, source
    return source


def _prefixes(name: str) -> list[str]:
    """a.b.c -> a, a.b, a.b.c. Importing a module runs the packages around it."""
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts) + 1)]


def _spec(name: str) -> ModuleSpec | None:
    """Where the module is. Unlike importlib's own search, this does not run the packages around it."""
    top, *below = name.split(".")
    try:
        spec = find_spec(top)
    except (ImportError, ValueError):
        return None
    for part in below:
        if spec is None or spec.submodule_search_locations is None:
            return None
        spec = PathFinder.find_spec(f"{spec.name}.{part}", list(spec.submodule_search_locations))
    return spec


def _parsed(content: bytes) -> ast.Module:
    try:
        return ast.parse(content)
    except (SyntaxError, ValueError):
        return ast.Module([], [])  # importing it will report the error


def imported(tree: ast.Module, package: str) -> Iterator[tuple[str, str]]:
    """What a file of this package imports by statements: the name that it gives it, and its dotted name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.asname or alias.name, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute("." * node.level + (node.module or ""), package)
            yield from ((alias.asname or alias.name, f"{base}.{alias.name}") for alias in node.names if base)


def _texts(tree: ast.Module, package: str) -> Iterator[str]:
    """The texts that may be a module's name: the arguments of calls, and the entries of `__all__`."""
    for node in ast.walk(tree):
        given: list[ast.expr] = []
        if isinstance(node, ast.Call):
            given = [*node.args, *(keyword.value for keyword in node.keywords)]
        elif isinstance(node, ast.Assign) and any(ast.unparse(each) == "__all__" for each in node.targets):
            given = getattr(node.value, "elts", [])
        for each in given:
            if isinstance(each, ast.Constant) and isinstance(each.value, str):
                name = _absolute(each.value, package)
                if all(part.isidentifier() for part in name.split(".")):
                    yield from (name, f"{package}.{name}" if package else name)


def _absolute(name: str, package: str) -> str:
    """The full name of a module. Empty where it is above the top, which importing it will report."""
    try:
        return resolve_name(name, package)
    except ImportError:
        return ""
