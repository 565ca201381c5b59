"""The command line: `python run.py --help` says what it can do."""

import sys
from pathlib import Path

try:
    from evidence.cli.command_line import main
except ModuleNotFoundError as error:
    sys.exit(f"evidence: {error}: `make setup` installs what is needed, for .venv/bin/python to run")

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], conf=Path(__file__).resolve().parent / "conf"))
