"""The command `make torture`: interruptions, packed sweeps and parallel sweeps, and what came out."""

import argparse
import datetime
import os
import platform
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import torch
import torture
from torture import CASES, ENVIRONMENT, VARIANTS, Outcome, Sweep, Torture, added, sweep

from evidence import tracking

SEEDS = 4  # of a parallel sweep
NUM_JOBS = 2 * SEEDS


def plan(count: int) -> Iterator[tuple[str, str]]:
    """As many interruptions, by case and variant, as even as it goes."""
    names = list(CASES)
    for number in range(count):
        yield names[number % len(names)], VARIANTS[number % len(VARIANTS)]


def _machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{os.cpu_count()} cores of {names[0] if names else platform.processor()}"


def _summary(outcomes: list[Outcome], sweeps: list[Sweep], seconds: float) -> bool:
    """Print what came out; whether all is well."""
    moments = Counter(moment for outcome in outcomes for moment in outcome.moments)
    rows = added([outcome.rows for outcome in outcomes])
    identical = sum(not outcome.wrong for outcome in outcomes)
    running = sum("is RUNNING" in wrong for outcome in outcomes for wrong in outcome.wrong)
    jobs, folders, store = (NUM_JOBS * len(sweeps), *(sum(each[i] for each in sweeps) for i in (0, 1)))
    print(
        f"\n{len(outcomes)} interruptions by {moments.total()} kill -9, each continued: {identical} identical\n"
        f"killed while {', '.join(f'{moment} {count}' for moment, count in moments.most_common())}\n"
        f"{rows.expected} metric rows: {rows.missing} missing in MLflow, {rows.doubled} doubled, {rows.other} other\n"
        f"{running} runs left RUNNING\n"
        f"{len(sweeps)} parallel sweeps on fresh stores: {folders} of {jobs} FINISHED in folders, {store} in MLflow\n"
        f"{datetime.date.today()}, {_machine()}, Python {platform.python_version()}, torch {torch.__version__},"
        f" {seconds / 60:.0f} minutes"
    )
    said = any(each.said for each in sweeps)
    return identical == len(outcomes) and not any(rows[1:]) and folders == store == jobs and not said


def main() -> int:
    """The exit status: 1 if anything is wrong, and then the folders are kept."""
    parser = argparse.ArgumentParser(
        description=torture.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--interruptions", type=int, default=100)
    parser.add_argument("--packed", type=int, default=50)
    parser.add_argument("--sweeps", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    os.environ.update(ENVIRONMENT)
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    began, folder = time.monotonic(), Path(tempfile.mkdtemp(prefix="torture-"))
    outcomes, sweeps = [], []
    tracking.prepare(tracking.Store(None, "first", folder))
    torturer = Torture(folder, folder / "mlflow.db")
    for number, (case, variant) in enumerate(plan(options.interruptions), 1):
        outcome = torturer.interrupt(case, variant, f"{options.seed}-{number}")
        outcomes.append(outcome)
        said = "; ".join(outcome.wrong) or "identical"
        print(
            f"{number:3}  {case:18}  {variant:5}  killed {', '.join(outcome.moments):21}  {said}", flush=True
        )
    for number in range(1, options.packed + 1):
        outcome = torturer.interrupt_packed(f"{options.seed}-packed-{number}")
        outcomes.append(outcome)
        said = "; ".join(outcome.wrong) or "identical"
        print(f"packed {number:3}  killed {', '.join(outcome.moments):21}  {said}", flush=True)
    for number in range(1, options.sweeps + 1):
        sweeps.append(sweep(folder / f"sweep-{number}", SEEDS, 2 if number % 2 else 4))
        print(f"sweep {number}: {sweeps[-1].in_folders} of {NUM_JOBS} FINISHED {sweeps[-1].said}", flush=True)
    if _summary(outcomes, sweeps, time.monotonic() - began):
        shutil.rmtree(folder)
        return 0
    print(f"all is in {folder}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
