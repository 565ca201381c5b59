"""Before the first job: which jobs there are, what of them is done, and how long the rest takes."""

import math
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from evidence.config.compose import Job, Request
from evidence.data import Dataset
from evidence.errors import UserError
from evidence.runs import resume
from evidence.runs.resume import Place
from evidence.sweeps.estimate import Estimate, estimate

WIDTH = 200  # of a table that goes to a file


class PlannedJob(NamedTuple):
    """A job before it begins; `twin` is the number of an earlier job with the same run."""

    job: Job
    place: Place
    same_as: int | None

    @property
    def is_left(self) -> bool:
        """Whether there is something to compute that no earlier job computes."""
        return self.same_as is None and not self.place.is_finished


def survey(jobs: Sequence[Job], root: Path) -> list[PlannedJob]:
    """Where each job stands; raises UserError on the first that cannot go on."""
    first: dict[str, int] = {}
    datasets: dict[str, Dataset] = {}
    planned = []
    for number, job in enumerate(jobs):
        try:
            place = resume.locate(job.settings, root, datasets)
        except UserError as error:
            raise UserError(f"job '{job.name}': {error}" if len(jobs) > 1 else str(error)) from None
        earlier = first.setdefault(place.identity.run, number)
        planned.append(PlannedJob(job, place, earlier if earlier < number else None))
    return planned


def estimates(planned: Sequence[PlannedJob], root: Path) -> dict[int, Estimate]:
    """By the number of the job, how long each takes that is left."""
    left = {number: each for number, each in enumerate(planned) if each.is_left}
    return dict(zip(left, estimate([(each.job, each.place) for each in left.values()], root), strict=True))


def counts(request: Request, planned: Sequence[PlannedJob]) -> str:
    """In words, how many jobs there are and how far they are."""
    if request.is_search:
        return "a search: its jobs are chosen as it goes"
    kinds = Counter(_kind(each) for each in planned)
    distinct = f" ({len(planned) - kinds['same']} distinct)" if kinds["same"] else ""
    named = {"done": "already done", "begun": "to be continued", "new": "to begin"}
    parts = [f"{kinds[kind]} {words}" for kind, words in named.items() if kinds[kind]]
    return f"{len(planned)} job{'s' * (len(planned) != 1)}{distinct}: {', '.join(parts)}"


def duration(request: Request, estimated: Sequence[Estimate]) -> str:
    """In words, the time that all which is left takes; empty where nothing is."""
    known = [each.seconds for each in estimated if each.seconds is not None]
    unknown = [each.reason for each in estimated if each.seconds is None]
    if not known:
        return f"estimated time unknown: {unknown[0]}" if unknown else ""
    total = clock(max(sum(known) / request.parallel, *known))
    rough = "roughly" if any(each.is_rough for each in estimated) else "about"
    beside = f", {request.parallel} jobs at a time" if request.parallel > 1 and len(known) > 1 else ""
    missing = f", and {len(unknown)} of unknown length ({unknown[0]})" if unknown else ""
    each = " for each job" if request.is_search else ""
    return f"estimated time {rough} {total}{each}{beside}{missing}"


def show(request: Request, root: Path) -> None:
    """Print the whole plan."""
    planned = survey(request.jobs, root)
    estimated = estimates(planned, root)
    table = Table(box=SIMPLE)
    for title in ("", "job", "status", "time", "folder"):
        table.add_column(title, overflow="fold", justify="right" if title == "time" else "left")
    for number, (name, each) in enumerate(
        zip(distinguishing([job.overrides for job in request.jobs]), planned, strict=True)
    ):
        outlook = estimated.get(number, Estimate(None))
        approximate = "~" * outlook.is_rough
        time = "" if outlook.seconds is None else approximate + clock(outlook.seconds)
        if outlook.reason:
            time = "unknown"
        folder = shown_folder(each.place.directory.folder, root)
        table.add_row(str(number), escape(name), _status(each, outlook), time, escape(folder))
    console = table_console()
    console.print(table)
    for line in (counts(request, planned), duration(request, list(estimated.values()))):
        if line:
            console.print(f"  {line}", soft_wrap=True, markup=False, highlight=False)


def table_console() -> Console:
    """stdout, as wide as it is, or wide enough where it is no terminal."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=WIDTH)


def distinguishing(jobs: Sequence[Sequence[str]]) -> list[str]:
    """The overrides of each job that not all jobs have; of a single job all."""
    common = set.intersection(*map(set, jobs)) if len(jobs) > 1 else set()
    return [" ".join(word for word in overrides if word not in common) for overrides in jobs]


def shown_folder(folder: Path, root: Path) -> str:
    """The folder below `root` where it lies there."""
    return str(folder.relative_to(root) if folder.is_relative_to(root) else folder)


def clock(seconds: float) -> str:
    """Hours, minutes and seconds, rounded up."""
    return str(timedelta(seconds=math.ceil(seconds)))


def _kind(planned_job: PlannedJob) -> str:
    if planned_job.same_as is not None:
        return "same"
    if planned_job.place.is_finished:
        return "done"
    return "begun" if planned_job.place.record else "new"


def _status(planned_job: PlannedJob, outlook: Estimate) -> str:
    kind, step = _kind(planned_job), f" from step {outlook.first_step:,}" if outlook.first_step else ""
    words = {
        "same": f"as job {planned_job.same_as}",
        "done": "done",
        "begun": f"continues{step}",
        "new": f"begins{step}",
    }
    return words[kind]
