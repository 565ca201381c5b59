"""`make table1 BUDGET=quick`: train what a study needs, measure, and write the report. `make report`: only that.

Whatever is broken off goes on when it is typed again: each sweep and each measurement knows what it has done.
"""

import argparse
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import torch

from evidence.errors import UserError
from evidence.report.frame import ROOT
from evidence.report.study import BUDGETS, Budget, Study
from experiments import reporting
from experiments.studies import STUDIES


class OneLine(argparse.ArgumentParser):
    """What is wrong with the arguments, in one line."""

    def error(self, message: str) -> NoReturn:
        """Exit with status 2."""
        self.exit(2, f"evidence: {message.replace('argument ', '').replace('invalid choice: ', '')}\n")


def main() -> int:
    """The exit status: 0, 1 where a study failed, 130 after Ctrl-C."""
    targets = [study.target for study in STUDIES]
    parser = OneLine(prog="python -m experiments", description=__doc__.partition("\n")[0])
    parser.add_argument("target", choices=[*targets, "reproduce", "report"])
    parser.add_argument("--budget", choices=BUDGETS, default="quick", help="default: %(default)s")
    parser.add_argument(
        "--keep", action="store_true", help="copy results.csv and the figures into experiments/<study>/ too"
    )
    arguments = parser.parse_args()
    torch.set_flush_denormal(True)  # before any tensor operation
    chosen = [study for study in STUDIES if arguments.target in (study.target, "reproduce")]
    failed = []
    try:
        for study in chosen:
            if not reproduce(study, arguments.budget):
                failed.append(study.target)
        page, summary = reporting.write(STUDIES, arguments.keep)
    except KeyboardInterrupt:
        print("\nevidence: interrupted; the same command goes on", file=sys.stderr)
        return 130
    except UserError as error:
        print(f"evidence: {error}", file=sys.stderr)
        return 2
    print(summary)
    print(f"report: {page}")
    if failed:
        print(f"evidence: not finished: {', '.join(failed)}; the same command goes on", file=sys.stderr)
    return int(bool(failed))


def reproduce(study: Study, budget: Budget) -> bool:
    """Train and measure; whether all of it was done."""
    cost = study.costs.get(budget, "not measured yet")
    print(f"\n{study.title} ({study.source})\nbudget {budget}: {cost}\n", flush=True)
    for arguments in study.sweeps(budget):
        print(f"python run.py {' '.join(arguments)}", flush=True)
        if not _run(arguments):
            return False
    if study.measure is not None:
        folder = reporting.FOLDER / study.name
        folder.mkdir(parents=True, exist_ok=True)
        study.measure(folder, budget)
    return True


def _run(arguments: list[str]) -> bool:
    """One sweep, in a process of its own, which hears a Ctrl-C itself and is waited for."""
    process = subprocess.Popen([sys.executable, str(Path(ROOT, "run.py")), *arguments])
    try:
        status = process.wait()
    except KeyboardInterrupt:
        process.wait()
        raise
    if status == 130:
        raise KeyboardInterrupt
    return status == 0


if __name__ == "__main__":
    sys.exit(main())
