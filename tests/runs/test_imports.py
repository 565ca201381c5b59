"""A run's code is all that computes it: a user's module with what it imports, as this process has loaded it."""

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import runs
from runs import directories, numbers, only_directory, said

from evidence import project
from evidence.runs import package_code, provenance

pytestmark = pytest.mark.usefixtures("no_figures")

FILES = {
    "mine.py": "import json, numpy\nfrom evidence.objectives import IWAE\nfrom helper import factor\nimport torch.nn\n"
    "class Own(IWAE):\n"
    "    def forward(self, model, x):\n"
    "        from kit.deep import inner\n"
    "        estimate = super().forward(model, x)\n"
    "        return estimate._replace(surrogate=inner() * factor * estimate.surrogate)\n",
    "helper.py": "import importlib\nfactor = 1.0\nimportlib.import_module('by_name')\n",
    "by_name.py": "",
    "kit/__init__.py": "from . import base\n",
    "kit/base.py": "",
    "kit/deep/__init__.py": "from ..base import *\nfrom .below import inner\n",
    "kit/deep/below.py": "inner = lambda: 1.0\n",
    "by_text.py": "import importlib as i\nlocate, load = i.import_module, lambda name: i.import_module(name)\n"
    "locate(name='by_keyword')\nload('by_alias')\nfrom many import *\nimport tabnanny\n",
    "by_keyword.py": "",
    "by_alias.py": "print('numpy')",
    "many/__init__.py": "__all__ = ['one']\n",
    "many/one.py": "",
    "tabnanny.py": "",  # stands before the standard library's
    "act.py": "",
    "bystander.py": "",
}
OWN = ["objective._target_=mine.Own", "objective.name=own", "tracking=none"]


@pytest.fixture(autouse=True)
def edit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Writes a user's file anew, as between two commands: nothing of the user's stays loaded."""
    monkeypatch.setattr(project, "_root", tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # which would outlive two edits within a second

    def write(name: str, text: str) -> None:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        forget()

    for name, text in FILES.items():
        write(name, text)
    return write


def forget() -> None:
    for name in [Path(file).with_suffix("").as_posix().replace("/", ".") for file in FILES]:
        sys.modules.pop(name.removesuffix(".__init__"), None)


def code(target: str = "mine.Own", **options: object) -> dict[str, str]:
    return provenance.code({"objective": {"_target_": target, **options}})


def test_a_users_modules_are_followed_and_installed_packages_have_their_version() -> None:
    import numpy

    found = code(act="act.anything", path="not.a.module", inner=[{"_target_": "torch.nn.ReLU"}])
    assert set(found) == {
        "evidence",
        "torch",
        "numpy",
        "mine",
        "helper",
        "by_name",
        "kit",
        "kit.base",
        "kit.deep",
        "kit.deep.below",
        "act",
    }
    assert found["numpy"] == numpy.__version__
    assert not {"mine", "helper", "kit"} & set(sys.modules)  # nothing was run for it
    assert set(provenance.code({"objective": {"_target_": "evidence.objectives.IWAE"}})) == {
        "evidence",
        "torch",
    }


def test_modules_that_only_a_text_names_are_followed_too() -> None:
    found = set(code("by_text.anything"))
    assert found == {"evidence", "torch", "by_text", "by_keyword", "by_alias", "many", "many.one", "tabnanny"}


FOLLOWED = ["mine.py", "helper.py", "by_name.py", *(name for name in FILES if name.startswith("kit/"))]


@pytest.mark.parametrize("name", FOLLOWED)
def test_an_edit_of_any_followed_file_is_noticed(name: str, edit: Callable[[str, str], None]) -> None:
    before = code()
    edit("bystander.py", "changed = True\n")
    assert code() == before
    edit(name, FILES[name] + "\n# edited\n")
    module = Path(name).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
    assert provenance.difference(before, code()) == f"{module} has changed"


def test_changes_are_told_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    before = code()
    monkeypatch.setattr(provenance.metadata, "version", lambda name: "9.9")
    after = code()
    words = f"numpy {before['numpy']} is now 9.9, torch {before['torch']} is now 9.9"
    assert provenance.difference(before, after) == words
    assert provenance.difference(after, after) == ""


@pytest.fixture
def package(tmp_path: Path) -> Iterator[Path]:
    """A copy of this package that a test may edit."""
    package_code._read.cache_clear()
    yield shutil.copytree(provenance.PACKAGE, tmp_path / "copy")
    package_code._read.cache_clear()


def hashed(package: Path, *names: str) -> str:
    package_code._read.cache_clear()
    return package_code.package_hash(package, names)


IWAE, UIVI = "evidence.objectives.IWAE", "evidence.objectives.UIVI"


@pytest.mark.parametrize(
    ("file", "old", "new", "changes_iwae", "changes_uivi"),
    [
        ("training.py", "10 ** (-i / 7)", "10 ** (-i / 8)", True, True),
        (
            "evaluation/metrics.py",
            "ImportanceSampling(100, ON_CPU.rows)",
            "ImportanceSampling(99, ON_CPU.rows)",
            True,
            True,
        ),
        ("evaluation/units.py", "1e-2", "1e-3", True, True),
        ("data/subsets.py", "// count", "// count + 0", True, True),
        ("objectives/weighting.py", "topk", "sort", True, False),
        ("hmc.py", "0.5", "0.25", False, True),
        ("objectives/sivi.py", "log_mean_exp", "sum", False, False),
        ("config/limits.py", "10**9", "10**8", False, False),
        ("data/checks.py", "data.", "the data's ", False, False),
        ("parts.py", 'torch.device("cpu"), seed)', 'torch.device("cpu"), seed + 1)', True, True),
        ("execution.py", "10_000, 10**7", "10_000, 10**8", True, True),
        ("runs/recorder.py", "FINISHED", "DONE", False, False),
        ("training.py", '"""The learning rate is multiplied', '"""The rate is multiplied', False, False),
        ("training.py", "not laid out densely", "laid out oddly", False, False),
        ("training.py", "import math\n", "# A comment.\nimport math\n", False, False),
    ],
)
def test_a_runs_code_is_what_its_classes_the_loop_and_the_evaluator_import(
    file: str, old: str, new: str, changes_iwae: bool, changes_uivi: bool, package: Path
) -> None:
    before = hashed(package, IWAE), hashed(package, UIVI)
    path = package / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    assert (hashed(package, IWAE) != before[0], hashed(package, UIVI) != before[1]) == (
        changes_iwae,
        changes_uivi,
    )


def test_a_new_objective_leaves_the_others_code_as_it_was(package: Path) -> None:
    before = hashed(package, IWAE)
    (package / "objectives" / "mine.py").write_text("class Mine: ...\n")
    init = package / "objectives" / "__init__.py"
    init.write_text("from evidence.objectives.mine import Mine\n" + init.read_text())
    assert hashed(package, IWAE) == before != hashed(package, "evidence.objectives.Mine")


@pytest.mark.parametrize(
    ("file", "is_mathematics"),
    [
        ("objectives/sivi.py", True),
        ("evaluation/ais.py", True),
        ("hmc.py", True),
        ("data/subsets.py", True),
        ("tracking/runs.py", False),
        ("config/limits.py", False),
    ],
)
def test_the_hash_of_all_covers_every_module_of_the_mathematics(
    file: str, is_mathematics: bool, package: Path
) -> None:
    def hashed() -> str:
        package_code._read.cache_clear()
        return package_code.hash_of_all(package)

    before, text = hashed(), (package / file).read_text()
    (package / file).write_text(f"{text}\n# A comment.\n")
    assert hashed() == before
    (package / file).write_text(f"{text}\nmore = 1\n")
    assert (hashed() != before) is is_mathematics


def test_the_package_counts_as_this_process_has_loaded_it(package: Path) -> None:
    before = hashed(package, IWAE)
    (package / "training.py").write_text("")
    assert package_code.package_hash(package, [IWAE]) == before
    assert hashed(package, IWAE) != before


def test_a_module_edited_while_a_process_goes_on_is_the_one_that_the_process_has_loaded(
    tmp_path: Path, edit: Callable[[str, str], None]
) -> None:
    assert runs.start(*OWN) == 0
    (tmp_path / "helper.py").write_text("factor = 0.5\n")  # between two jobs of a sweep
    assert runs.start(*OWN, "seed=1") == 0
    first, second = directories(tmp_path)
    assert first.read().code == second.read().code
    forget()
    assert code()["helper"] != first.read().code["helper"]


@pytest.mark.parametrize("name", ["helper.py", "kit/deep/below.py"])
def test_a_run_is_not_gone_on_with_when_a_helper_has_changed(
    name: str, tmp_path: Path, edit: Callable[[str, str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    runs.begin(*OWN)
    edit(name, FILES[name].replace("1.0", "0.5"))
    said(capsys)
    assert runs.start(*OWN) == 1
    module = Path(name).with_suffix("").as_posix().replace("/", ".")
    (line,) = said(capsys)
    assert f"was begun by other code ({module} has changed)" in line
    assert runs.start(*OWN, "rerun=true", "paths.outputs=fresh") == 0
    (expected,) = tmp_path.glob("fresh/*/result.json")
    forget()
    assert runs.start(*OWN, "rerun=true") == 0
    interrupted, fresh = directories(tmp_path)
    assert interrupted.read().status == "KILLED"
    assert numbers(fresh) == numbers(runs.RunDirectory(expected.parent))


def test_a_finished_runs_result_comes_with_a_word_on_its_helper(
    tmp_path: Path, edit: Callable[[str, str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    assert runs.start(*OWN) == 0
    edit("helper.py", "factor = 0.5\n")
    said(capsys)
    assert runs.start(*OWN) == 0
    assert "was computed by other code (by_name is no longer used, helper has changed)" in said(capsys)[0]
    assert only_directory(tmp_path).read().status == "FINISHED"
