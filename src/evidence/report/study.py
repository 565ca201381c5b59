"""What a study is, and what it has found: the claims of a paper, beside the figures that speak for or against them."""

import importlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from pandas import DataFrame

from evidence.errors import UserError

Budget = Literal["quick", "day", "paper"]
BUDGETS: tuple[Budget, ...] = ("quick", "day", "paper")
SIDE_BY_SIDE = ["-m", "hydra/launcher=joblib"]  # the jobs of a sweep


class Claim(NamedTuple):
    """A published sentence, whether our figures bear it out (None where they do not reach), and these figures."""

    statement: str
    holds: bool | None
    evidence: str


class Picture(NamedTuple):
    """A PNG in the study's folder, and what one sees in it."""

    file: str
    caption: str


class Findings(NamedTuple):
    """results: every figure with its machine, date, commit and budget, as results.csv keeps it.

    table: the same to be read, as strings under the headings of the page; in the column `runs` are the names of the
    runs' folders. notes: deviations from the protocol, and what a reader must know.
    """

    results: DataFrame
    table: DataFrame
    claims: list[Claim]
    pictures: list[Picture]
    notes: list[str]


class Study(NamedTuple):
    """One published table or figure.

    name: of its folder in experiments/, its grid in conf/experiment/ and its MLflow experiment.
    experiment: another MLflow experiment, for a study of another one's runs.
    order: its place in the report; equal places are in the order of the folders' names.
    sweeps: what a budget trains, each an argument list for run.py; taken one after another, so that a later one can
        name what an earlier one has trained.
    measure: what is measured beside the runs, written as CSV into the study's folder of the report. What the same
        code has measured of the same records, and as long, is not measured again.
    find: the findings, from the finished runs of the study's experiment and from that folder, where it draws pictures.
    """

    name: str
    target: str  # of make
    title: str
    claim: str  # in a sentence
    source: str  # where it was published
    costs: Mapping[Budget, str]  # how long it takes, and on what; budgets never run are missing
    sweeps: Callable[[Budget], Iterator[list[str]]]
    find: Callable[[DataFrame, Path], Findings]
    measure: Callable[[Path, Budget], None] | None = None
    experiment: str | None = None
    order: int = 0


def discovered(folder: Path) -> list[Study]:
    """The STUDY of each <folder>/<name>/study.py, in the order of the report; `folder` is an importable package.

    Raises: UserError where such a file has no STUDY, or one of another name than its folder's.
    """
    found = []
    for path in sorted(folder.glob("*/study.py")):
        name = path.parent.name
        study = getattr(importlib.import_module(f"{folder.name}.{name}.study"), "STUDY", None)
        if not isinstance(study, Study) or study.name != name:
            raise UserError(f"{path}: it must define STUDY, a Study whose name is {name}")
        found.append(study)
    return sorted(found, key=lambda study: study.order)
