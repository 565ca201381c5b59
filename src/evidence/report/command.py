"""Runs the command `python -m experiments`: it trains what a study needs, measures, and writes the report.

The same command continues what was interrupted. Each sweep and each measurement keeps what it has done.
"""

import argparse
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

import torch

from evidence import project
from evidence.display.output import unfailing
from evidence.errors import Terminated, UserError
from evidence.report import experiment, page
from evidence.report.arguments import OneLine
from evidence.report.frame import finished
from evidence.report.study import BUDGETS, Budget, Study, discovered
from evidence.termination import STATUS, passing_on


@unfailing()
def main(folder: Path) -> int:
    """Work on the studies in a folder, and return the exit status.

    0: all is done. 1: a study failed. 2: a UserError. 130: Ctrl-C. 143: SIGTERM.
    """
    try:
        with passing_on():
            return _main(discovered(folder))
    except KeyboardInterrupt:
        print("\nevidence: interrupted; the same command goes on", file=sys.stderr)
        return 130
    except Terminated:
        print("\nevidence: terminated; the same command goes on", file=sys.stderr)
        return STATUS
    except UserError as error:
        print(f"evidence: {error}", file=sys.stderr)
        return 2


def _main(studies: Sequence[Study]) -> int:
    parser = OneLine(
        prog="python -m experiments",
        description="Train and measure a study; write the report.",
        epilog=_budgets(studies),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("target", choices=[*(study.target for study in studies), "reproduce", "report"])
    parser.add_argument("--budget", choices=BUDGETS, default="quick", help="default: %(default)s")
    parser.add_argument(
        "--keep", action="store_true", help="copy results.csv and the figures into experiments/<study>/ too"
    )
    parser.add_argument(
        "--experiment", metavar="NAME", help="report: only of this MLflow experiment, any one"
    )
    arguments = parser.parse_args()
    if arguments.experiment is not None:
        if arguments.target != "report":
            parser.error(f"--experiment: {arguments.target} trains a study; write: report --experiment NAME")
        print(f"report: {experiment.write(arguments.experiment)}")
        return 0
    torch.set_flush_denormal(True)  # before any tensor operation
    chosen = [study for study in studies if arguments.target in (study.target, "reproduce")]
    failed = [study.target for study in chosen if not reproduce(study, arguments.budget)]
    written, summary = write(studies, arguments.keep)
    print(summary)
    print(f"report: {written}")
    if failed:
        print(f"evidence: not finished: {', '.join(failed)}; the same command goes on", file=sys.stderr)
    return int(bool(failed))


def reproduce(study: Study, budget: Budget) -> bool:
    """Train and measure a study. Return whether all of it was done."""
    cost = study.costs.get(budget, "not measured yet")
    reached = study.reaches.get(budget, "as its study.py says")
    print(f"\n{study.title} ({study.source})\nbudget {budget}: {reached}\ntime: {cost}\n", flush=True)
    for arguments in study.sweeps(budget):
        print(f"python run.py {' '.join(arguments)}", flush=True)
        if not _run(arguments):
            return False
    try:
        if study.measure is not None:
            study.measure(_folder(study), budget)
    except UserError as error:
        print(f"evidence: {error}", file=sys.stderr)
        return False
    return True


def write(studies: Sequence[Study], keep: bool = False) -> tuple[Path, str]:
    """Write the report. Return the path of its page, and a line for each study that counts its claims.

    `keep` copies the figures and results to experiments/ too.
    """
    sections, links, lines, folder = [], {}, [], _report()
    for study in studies:
        runs = finished(study.experiment or study.name)
        found = study.find(runs, _folder(study))
        sections.append(page.Section(study, found, f"make {study.target}"))
        if len(runs):
            for name, where, url in zip(runs["run"], runs["folder"], runs["url"], strict=True):
                links[name] = page.Links(os.path.relpath(project.root() / where, folder), url)
        verdicts = [claim.holds for claim in found.claims]
        counts = (verdicts.count(True), verdicts.count(False), verdicts.count(None))
        lines.append("{:14} claims: {} hold, {} do not, {} not decided".format(study.target, *counts))
    written = page.write(sections, links, folder)
    for study, found in ((each.study, each.findings) for each in sections if keep):
        if len(found.results):
            for name in ("results.csv", *(picture.file for picture in found.pictures)):
                shutil.copyfile(_folder(study) / name, project.root() / "experiments" / study.name / name)
    return written, "\n".join(lines)


def _budgets(studies: Sequence[Study]) -> str:
    """What each budget of each study trains, for the help."""
    lines = ["what a budget trains:"]
    for study in studies:
        for budget, words in study.reaches.items():
            opening = f"  {study.target:13} {budget:6} "
            lines.append(
                textwrap.fill(words, 110, initial_indent=opening, subsequent_indent=" " * len(opening))
            )
    return "\n".join(lines)


def _report() -> Path:
    return project.root() / "outputs" / "report"


def _folder(study: Study) -> Path:
    """The study's folder of the report, with its measurements and figures. It is made if it is missing."""
    folder = _report() / study.name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _run(arguments: list[str]) -> bool:
    """Run one sweep in a process of its own, and return whether it ended well.

    Ctrl-C in a terminal reaches that process itself. SIGTERM is passed on to it.
    """
    process = subprocess.Popen([sys.executable, str(project.root() / "run.py"), *arguments])
    try:
        status = process.wait()
    except KeyboardInterrupt:
        process.wait()
        raise
    except Terminated:
        process.terminate()
        process.wait()
        raise
    if status == 130:
        raise KeyboardInterrupt
    if status == STATUS:
        raise Terminated
    return status == 0
