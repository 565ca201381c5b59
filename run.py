"""The command line in a checkout: `python run.py --help` says what it can do.

Importing this file makes the checkout the root, and refuses the package of another one.
"""

import sys
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).resolve().parent
OURS = HERE / "src" / "evidence" / "__init__.py"
found = find_spec("evidence")
if found is not None and (found.origin is None or Path(found.origin).resolve() != OURS.resolve()):
    where = Path(found.origin).parent if found.origin else next(iter(found.submodule_search_locations or []))
    sys.exit(
        f"evidence: {sys.executable} has the package {where}, which is not {OURS.parent} beside run.py:"
        f" use {HERE / '.venv' / 'bin' / 'python'}, which `make setup` makes"
    )
try:
    from evidence import project
    from evidence.cli.command_line import main
except ModuleNotFoundError as error:
    sys.exit(f"evidence: {error}: `make setup` installs what is needed, for .venv/bin/python to run")

project.work_in(HERE)

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], conf=HERE / "conf"))
