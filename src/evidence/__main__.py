"""The command `evidence`, and `python -m evidence`: as run.py, in the current folder."""

import sys
from pathlib import Path

from evidence import project
from evidence.cli import command_line


def main() -> int:
    """Do what the command line asks, in the current folder, and return the exit status."""
    project.work_in(Path.cwd())
    return command_line.main(sys.argv[1:], project.CONF)


if __name__ == "__main__":
    sys.exit(main())
