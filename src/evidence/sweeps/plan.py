"""Plans a sweep before its first job: its jobs, the state of each, and the time that is left."""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

from evidence.config.compose import Job, Request
from evidence.config.flags import shown
from evidence.config.settings import Settings
from evidence.data import Dataset
from evidence.display import terminal
from evidence.display.terminal import clock
from evidence.errors import UserError
from evidence.records.directory import Stored, now, shown_folder, stored
from evidence.records.record import Sweep
from evidence.runs import lookup
from evidence.runs.lookup import LocatedRun
from evidence.sweeps.estimate import Estimate, estimate

State = Literal["done", "begun", "new", "same"]
COUNTED: Mapping[State, str] = {"done": "already done", "begun": "to be continued", "new": "to begin"}


class PlannedJob(NamedTuple):
    """A job before the sweep begins.

    name: its overrides, without those that all jobs have.
    computed_by: the number of the first job of the same run, which computes it.
    state: "same" where that is an earlier job.
    """

    name: str
    settings: Settings
    located: LocatedRun
    computed_by: int
    state: State

    @property
    def is_left(self) -> bool:
        """Whether this job has something to compute."""
        return self.state in ("begun", "new")


class Plan(NamedTuple):
    """The jobs, and the estimates of those that are left, by number."""

    jobs: list[PlannedJob]
    estimates: dict[int, Estimate]


def survey(jobs: Sequence[Job], root: Path) -> Plan:
    """The state of each job, and the time that is left. Each record is read once.

    Raises: UserError on the first job that cannot continue.
    """
    records = cache(stored)
    planned = _located(jobs, root, records)
    left = {number: (each.settings, each.located) for number, each in enumerate(planned) if each.is_left}
    return Plan(planned, dict(zip(left, estimate(left.values(), records), strict=True)))


def words(request: Request, planned: Plan) -> list[str]:
    """A line that counts the jobs by state, and one with the time if jobs are left."""
    times = list(planned.estimates.values())
    return list(filter(None, [_counts(request, planned.jobs), _duration(request, times)]))


def show(request: Request, root: Path) -> None:
    """Print the whole plan."""
    planned = survey(request.jobs, root)
    rows = []
    for number, each in enumerate(planned.jobs):
        time, status = "", f"as job {each.computed_by}" if each.state == "same" else "done"
        if each.is_left:
            seconds, step = planned.estimates[number]
            time = "unknown" if seconds is None else clock(seconds)
            status = "continues" if each.state == "begun" else "begins"
            status += f" from step {step:,}" if step else ""
        rows.append([str(number), each.name, status, time, shown_folder(each.located.directory.folder, root)])
    columns = ["", "job", "status", "time", "folder"]
    if request.is_packed:
        columns.insert(3, "stack")
        rows = [[*row[:3], stack, *row[3:]] for row, stack in zip(rows, _stacks(planned), strict=True)]
    terminal.table(columns, rows, numbers=["time"])
    for line in words(request, planned):
        terminal.line(f"  {line}")


def sweep_of(request: Request, jobs: Sequence[PlannedJob], overrides: Sequence[str]) -> Sweep:
    """Which sweep these jobs are. The same jobs make the same sweep; a search is one of its own."""
    identities = sorted({each.located.identity.run for each in jobs})
    what = str(request.folder) if request.is_search else " ".join(identities)
    typed = [shown(word) for word in overrides if not word.startswith("hydra")]
    return Sweep(
        id=hashlib.sha256(what.encode()).hexdigest()[:16],
        words=" ".join(typed) or f"{len(jobs)} jobs",
        began=now(),
    )


def _stacks(planned: Plan) -> list[str]:
    """The letter of each job's stack, the runs of one form that are at one step; empty for a job by itself."""
    keys = [
        (each.located.identity.form, planned.estimates[number].first_step) if each.is_left else None
        for number, each in enumerate(planned.jobs)
    ]
    number = Counter(key for key in keys if key is not None)
    stacked = [key for key in number if number[key] > 1]
    letters = {key: _letters(place) for place, key in enumerate(stacked)}
    return ["" if key is None else letters.get(key, "") for key in keys]


def _letters(number: int) -> str:
    """a, b, ..., z, aa, ab, ..."""
    rest, last = divmod(number, 26)
    return (_letters(rest - 1) if rest else "") + chr(ord("a") + last)


def distinguishing(jobs: Sequence[Sequence[str]]) -> list[str]:
    """The overrides of each job without those that all jobs have; of a job that has no other, all."""
    common = set.intersection(*map(set, jobs)) if len(jobs) > 1 else set()
    own = [[word for word in overrides if word not in common] for overrides in jobs]
    return [" ".join(words or overrides) for words, overrides in zip(own, jobs, strict=True)]


def _located(jobs: Sequence[Job], root: Path, records: Callable[[Path], list[Stored]]) -> list[PlannedJob]:
    first: dict[str, int] = {}
    datasets: dict[str, Dataset] = {}
    planned = []
    names = distinguishing([job.overrides for job in jobs])
    for number, (name, job) in enumerate(zip(names, jobs, strict=True)):
        try:
            outputs = root / job.settings.paths.outputs
            located = lookup.locate(job.settings, root, datasets, records(outputs))
        except UserError as error:
            which = f"job '{' '.join(job.overrides)}': " if len(jobs) > 1 else ""
            raise UserError(f"{which}{error}") from None
        computed_by = first.setdefault(located.identity.run, number)
        state = _state(located) if computed_by == number else "same"
        planned.append(PlannedJob(name, job.settings, located, computed_by, state))
    return planned


def _state(located: LocatedRun) -> State:
    if located.is_finished:
        return "done"
    return "new" if located.record is None else "begun"


def _counts(request: Request, planned: Sequence[PlannedJob]) -> str:
    if request.is_search:
        return "a search: its jobs are chosen as it goes"
    number = Counter(each.state for each in planned)
    distinct = f" ({len(planned) - number['same']} distinct)" if number["same"] else ""
    parts = [f"{number[state]} {words}" for state, words in COUNTED.items() if number[state]]
    return f"{len(planned)} job{'s' * (len(planned) != 1)}{distinct}: {', '.join(parts)}"


def _duration(request: Request, estimated: Sequence[Estimate]) -> str:
    known = [each.seconds for each in estimated if each.seconds is not None]
    if not estimated:
        return ""
    if not known:
        return (
            "time unknown: no run of the same kind has finished on this machine; plan=true tells it after the"
            " first one"
        )
    time = f"estimated time about {clock(max(sum(known) / request.parallel, *known))}"
    if request.is_search:
        return f"{time} for {' '.join(request.jobs[0].overrides)}; another of its jobs may take longer"
    is_all = len(known) == len(estimated)
    part = "" if is_all else f" for {len(known)} of {len(estimated)} jobs"
    beside = f", {request.parallel} jobs at a time" if request.parallel > 1 and len(known) > 1 else ""
    missing = "" if is_all else "; no run of the others' kind has finished on this machine"
    return f"{time}{part}{beside}{missing}"
