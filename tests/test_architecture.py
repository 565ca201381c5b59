"""The folders are the contract: who may import whom, and the rules of style that a machine can hold us to.

docs/architecture.md lists the folders from the lowest to the highest. The walk reads every import statement, those
inside functions and `if TYPE_CHECKING` too.
"""

import ast
import graphlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "evidence"
EXPERIMENTS = ROOT / "experiments"
SOURCES = sorted(PACKAGE.rglob("*.py"))
STUDIES = sorted(EXPERIMENTS.rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
MATHEMATICS = {"objectives", "evaluation", "data"}  # with the modules at the top of the package
ONLY_IN = {
    "mlflow": {"tracking"},
    "hydra": {"cli", "config", "runs"},
    "omegaconf": {"cli", "config", "runs"},
    "matplotlib": {"display"},
    "rich": {"display"},
}
NOT_IN_STUDIES = ONLY_IN.keys() - {"matplotlib"}  # these draw

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


def folders() -> list[str]:
    """The folders, from the lowest to the highest."""
    return re.findall(r"^\| `(\w+)/` \|", (ROOT / "docs" / "architecture.md").read_text(), re.MULTILINE)


def part(dotted: str) -> str:
    """evidence.runs.fit -> runs; evidence.models -> models."""
    return dotted.split(".")[1]


def all_imports(paths: list[Path] = SOURCES, root: Path = ROOT / "src") -> Iterator[tuple[Path, str, str]]:
    """Of each import in files below the root: the file, its folder or module at the top, and the imported name."""
    for path in paths:
        parts = path.relative_to(root).with_suffix("").parts
        for name in imported(path.read_text(), ".".join(parts[:-1])):
            yield path.relative_to(ROOT), parts[1], name


def own_imports() -> list[tuple[Path, str, str]]:
    """From one part of the package to another."""
    found = [(path, here, part(name)) for path, here, name in all_imports() if name.startswith("evidence.")]
    return [(path, here, there) for path, here, there in found if here != there]


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
    import evidence.runs
"""
    assert set(imported(source, "evidence.data")) == {
        "torch.nn",
        "mlflow",
        "evidence.hmc",
        "evidence.networks.Critic",
        "evidence.data.numerics",
        "evidence.data.files.fetch",
        "evidence.errors.UserError",
        "evidence.runs",
    }


def test_the_page_lists_the_folders_that_there_are():
    assert sorted(folders()) == sorted(
        path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()
    )


def test_no_folder_imports_a_higher_one():
    order = folders()
    assert [
        f"{path} imports {there}"
        for path, here, there in own_imports()
        if here in order and there in order and order.index(there) > order.index(here)
    ] == []


def refuse_circles(imports: Iterable[tuple[str, str]]) -> None:
    """Raises: CycleError."""
    graph: dict[str, set[str]] = {}
    for here, there in imports:
        graph.setdefault(here, set()).add(there)
    graphlib.TopologicalSorter(graph).prepare()


def test_there_are_no_circles():
    refuse_circles((here, there) for _, here, there in own_imports())


def test_studies_that_build_on_each_other_make_no_circles():
    found = [
        (here, part(name)) for _, here, name in all_imports(STUDIES, ROOT) if name.startswith("experiments.")
    ]
    between = [(here, there) for here, there in found if here != there]
    assert ("iwae_table3", "iwae_table1") in between
    refuse_circles(between)


def test_nothing_lies_beside_the_studies_but_their_command_and_the_example():
    assert sorted(path.name for path in EXPERIMENTS.glob("*.py")) == ["__main__.py", "minimal.py"]


def test_the_package_imports_no_study():
    assert [
        f"{path} imports {name}" for path, _, name in all_imports() if name.startswith("experiments")
    ] == []


def test_the_mathematics_imports_nothing_but_mathematics():
    machinery = {
        *folders(),
        "__init__",
        "__main__",
    } - MATHEMATICS  # what `import evidence` and `evidence` offer
    assert [
        f"{path} imports {there}"
        for path, here, there in own_imports()
        if here not in machinery and there in machinery
    ] == []
    assert [
        f"{path} imports a network"
        for path, here, there in own_imports()
        if here in ("objectives", "evaluation") and there == "networks"
    ] == []


def test_libraries_stay_where_they_belong():
    assert [
        f"{path} imports {name}"
        for path, here, name in all_imports()
        if here not in ONLY_IN.get(name.partition(".")[0], {here})
    ] == []
    assert [
        f"{path} imports {name}"
        for path, _, name in all_imports(STUDIES, ROOT)
        if name.partition(".")[0] in NOT_IN_STUDIES
    ] == []


def test_the_init_of_a_folder_says_what_it_knows_and_only_hands_on():
    for name in folders():
        tree = ast.parse((PACKAGE / name / "__init__.py").read_text())
        assert ast.get_docstring(tree), name
        kinds = (ast.Import, ast.ImportFrom, ast.Expr, ast.Assign)
        assert all(isinstance(node, kinds) for node in tree.body), name


def test_no_file_is_longer_than_a_sitting():
    lengths = {
        path.relative_to(ROOT): len(path.read_text().splitlines()) for path in SOURCES + STUDIES + TESTS
    }
    assert {path: length for path, length in lengths.items() if length > MAX_LINES} == {}


def test_every_module_and_public_name_says_what_it_is():
    trees = {path.relative_to(ROOT): ast.parse(path.read_text()) for path in SOURCES + STUDIES}
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
        for path in SOURCES + STUDIES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        and len((ast.get_docstring(node) or "").splitlines()) > MAX_DOCSTRING_LINES
    ] == []
