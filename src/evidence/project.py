"""Where a command works, and where the configs are.

`run.py` and `python -m experiments` work in their checkout. The command `evidence`, `python -m evidence` and a
program that imports this package work in the current folder. This folder is the root: relative folders, and
MLflow's store where no other is named, are below it.
"""

import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
CHECKOUT = PACKAGE.parents[1] if (PACKAGE.parents[1] / "run.py").is_file() else None
CONF = (CHECKOUT or PACKAGE) / "conf"  # a wheel has it in the package

_root: Path | None = None


def root() -> Path:
    """The root of this process: what `work_in` was given, else the current folder."""
    return Path.cwd() if _root is None else _root


def work_in(folder: Path) -> None:
    """Make the folder the root of this process. The modules in it can be imported, also by another command."""
    global _root
    _root = folder
    find_modules()


def find_modules() -> None:
    """Let the modules in the root be imported."""
    if str(root()) not in sys.path:
        sys.path.insert(0, str(root()))
