"""The root is where the command is: in a checkout, and where the package is installed from a wheel."""

import os
import shutil
import site
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from evidence import project, report
from evidence.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
SMALL = ["data=digits", "k=2", "trainer=smoke", "trainer.steps=10", "eval=smoke", "eval.images=20"]
OWN = "from evidence.objectives import ELBO\n\nclass Mine(ELBO):\n    pass\n"
READ = "from evidence import report; print(list(report.runs()['status']))"


def call(*words: str | Path, cwd: Path, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {"PYTHONPATH": str(path)} if path else {}
    return subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def installed(folder: Path) -> Path:
    """The Python of a fresh environment with the wheel of this checkout, beside the packages that it needs."""
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, ROOT],
        check=True,
        capture_output=True,
    )
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "venv", with_pip=False)
    python = folder / "venv" / "bin" / "python"
    (library,) = folder.glob("venv/lib/python*/site-packages")
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-index", wheel]
    subprocess.run(pip, check=True, capture_output=True)
    # Only the folder goes on the path: the editable installation in it, a .pth file of its own, does not.
    (library / "others.pth").write_text("\n".join(site.getsitepackages()))
    return python


def laid_out(folder: Path) -> Path:
    """A folder for the path, as a wheel would fill it."""
    library = folder / "library"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "src", library, ignore=ignored)
    shutil.copytree(ROOT / "conf", library / "evidence" / "conf")
    return library


@pytest.mark.parametrize("way", ["laid out", pytest.param("wheel", marks=pytest.mark.slow)])
def test_an_installed_package_works_in_any_folder_and_writes_there(way: str, tmp_path: Path) -> None:
    work, empty = tmp_path / "work", tmp_path / "empty"
    work.mkdir()
    empty.mkdir()
    if way == "wheel":
        python, path = installed(tmp_path), None
        command: list[str | Path] = [python.parent / "evidence"]
    else:
        python, path = Path(sys.executable), laid_out(tmp_path)
        command = [python, "-m", "evidence"]
    library = (path or next(tmp_path.glob("venv/lib/python*/site-packages"))) / "evidence"
    assert (library / "py.typed").is_file()
    before = {file for file in library.rglob("*") if "__pycache__" not in file.parts}

    helped = call(*command, "--help", cwd=empty, path=path)
    assert helped.stdout.splitlines()[3].startswith("  evidence ")
    assert "iwae_table1" in helped.stdout
    assert call(*command, "k=0", cwd=empty, path=path).stderr == "evidence: k=0: must be at least 1\n"

    (work / "own.py").write_text(OWN)
    own = ["objective=vae", "objective._target_=own.Mine"]
    ended = call(*command, *SMALL, *own, cwd=work, path=path)
    assert ended.returncode == 0, ended.stderr
    assert {each.name for each in work.iterdir()} - {"__pycache__", "mlflow.db.lock"} == {
        "own.py",
        "outputs",
        "mlflow.db",
        "mlruns",
    }
    assert "'test/nll'" not in ended.stderr
    (record,) = work.glob("outputs/*/result.json")
    assert '"git_commit": "unknown"' in record.read_text()
    assert call(python, "-c", READ, cwd=work, path=path).stdout == "['FINISHED']\n"
    assert "NoStore: there is no MLflow store" in call(python, "-c", READ, cwd=empty, path=path).stderr
    reported = call(*command, "report", "--experiment", "evidence", cwd=work, path=path)
    assert reported.returncode == 0, reported.stderr
    for name in ("index.html", "table.tex", "table.csv", "cells.pdf"):
        assert (work / "outputs" / "report" / "evidence" / name).is_file()
    assert call(*command, "report", cwd=empty, path=path).stderr.startswith(
        "evidence: there is no MLflow store"
    )
    assert list(empty.iterdir()) == []
    assert {file for file in library.rglob("*") if "__pycache__" not in file.parts} == before


@pytest.mark.parametrize("beside", ["another checkout's", "nothing"])
@pytest.mark.parametrize("command", ["run.py", "experiments"])
def test_a_checkout_refuses_by_name_a_package_that_is_not_its_own(
    command: str, beside: str, tmp_path: Path
) -> None:
    shutil.copy(ROOT / "run.py", tmp_path)
    (tmp_path / "experiments").mkdir()
    shutil.copy(ROOT / "experiments" / "__main__.py", tmp_path / "experiments")
    if beside != "nothing":
        (tmp_path / "src" / "evidence").mkdir(parents=True)
        (tmp_path / "src" / "evidence" / "__init__.py").touch()
    words = ["run.py", "--help"] if command == "run.py" else ["-m", "experiments", "report"]
    ended = call(sys.executable, *words, cwd=tmp_path, path=ROOT / "src")
    assert ended.returncode == 1
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    assert f"has the package {ROOT / 'src' / 'evidence'}, which is not" in line
    assert f"{tmp_path / 'src' / 'evidence'} beside run.py" in line


def test_run_py_works_in_its_checkout_wherever_it_is_typed(tmp_path: Path) -> None:
    for name in ("run.py", "src", "conf"):
        (tmp_path / "checkout").mkdir(exist_ok=True)
        take = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        take(ROOT / name, tmp_path / "checkout" / name)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    words = [sys.executable, "../checkout/run.py", *SMALL, "tracking=none"]
    ended = call(*words, cwd=elsewhere, path=tmp_path / "checkout" / "src")
    assert ended.returncode == 0, ended.stderr
    assert list(elsewhere.iterdir()) == []
    assert len(list((tmp_path / "checkout").glob("outputs/*/result.json"))) == 1


def test_reading_makes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for uri in (None, f"sqlite:///{tmp_path}/deep/other.db"):
        with pytest.raises(UserError, match="there is no MLflow store"):
            report.runs("study", uri)
    assert list(tmp_path.iterdir()) == []


def test_a_program_works_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert project.root() == tmp_path
    assert project.CONF == ROOT / "conf"
