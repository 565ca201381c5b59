"""Which files a user's module is made of: the module itself, and all that it imports outside installed packages.

The imports are read from the source, those inside functions too, and nothing is run for it. A module that this
process has loaded counts as it was then, whatever has become of its file since.
"""

import ast
import hashlib
import sys
from collections.abc import Iterable, Iterator
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec, resolve_name
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

INSTALLED = {"site-packages", "dist-packages"}  # the folders that packages are installed into


class Sources(NamedTuple):
    """hashes: of each file by the module's name; installed: top-level names of installed packages they import."""

    hashes: dict[str, str]
    installed: set[str]


def sources(names: Iterable[str]) -> Sources:
    """Of the modules in these dotted names, of a module or of something in it, and of whatever they import."""
    found = Sources({}, set())
    waiting = [module for name in names for module in _prefixes(name)]
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        top = name.partition(".")[0]
        if name in seen or top in sys.stdlib_module_names or top == "evidence":
            continue
        seen.add(name)
        spec = _spec(name)
        if spec is None or spec.origin is None or not spec.has_location:
            continue  # nothing of that name, or a folder of modules without a file of its own
        path = Path(spec.origin)
        if INSTALLED & set(path.parts):
            found.installed.add(top)
            continue
        package = name if spec.submodule_search_locations is not None else name.rpartition(".")[0]
        source = _source(name, path, package)
        found.hashes[name] = source.digest
        waiting += [module for each in source.imports for module in _prefixes(each)]
    return found


def is_own(target: str) -> bool:
    """Whether a `_target_` is the user's, neither this package's nor torch's."""
    return target.partition(".")[0] not in ("evidence", "torch")


class _Source(NamedTuple):
    digest: str
    imports: list[str]


_known: dict[str, tuple[ModuleType | None, _Source]] = {}  # by module: what was loaded when its file was read


def _source(name: str, path: Path, package: str) -> _Source:
    loaded = sys.modules.get(name)
    if loaded is not None and name in _known and _known[name][0] in (None, loaded):
        source = _known[name][1]
    else:
        content = path.read_bytes()
        imports = list(_imported(content, package)) if path.suffix == ".py" else []
        source = _Source(hashlib.sha256(content).hexdigest()[:16], imports)
    _known[name] = loaded, source
    return source


def _prefixes(name: str) -> list[str]:
    """a.b.c -> a, a.b, a.b.c: importing a module runs the packages around it."""
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts) + 1)]


def _spec(name: str) -> ModuleSpec | None:
    """Where the module lies. Unlike importlib's own search this does not run the packages around it."""
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


def _imported(content: bytes, package: str) -> Iterator[str]:
    """The dotted names that a file imports, by statements or by calls with a name in quotes."""
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError):
        return  # importing it will say so
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=aliases):
                yield from (alias.name for alias in aliases)
            case ast.ImportFrom(module=module, names=aliases, level=level):
                base = _absolute("." * level + (module or ""), package)
                yield from (f"{base}.{alias.name}" for alias in aliases if base)
            case ast.Call(
                func=ast.Name(id="__import__" | "import_module") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                yield _absolute(name, package)


def _absolute(name: str, package: str) -> str:
    """The full name of a module; empty where it lies above the top, as importing it will say."""
    try:
        return resolve_name(name, package)
    except ImportError:
        return ""
