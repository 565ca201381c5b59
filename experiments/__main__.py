"""`make table1 BUDGET=quick` trains, measures and writes the report; `make report` only writes it."""

import sys
from pathlib import Path

import run  # noqa: F401  makes the checkout the root, before anything else is imported
from evidence.report import command

if __name__ == "__main__":
    sys.exit(command.main(Path(__file__).parent))
