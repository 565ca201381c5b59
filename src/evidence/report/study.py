"""Defines a study and its findings: the claims of a paper, and the figures for or against them.

`discovered` finds the studies by their folders.
"""

import importlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from pandas import DataFrame

from evidence.errors import UserError

Budget = Literal["quick", "day", "paper"]
BUDGETS: tuple[Budget, ...] = ("quick", "day", "paper")
# The jobs of a sweep. Where there is a GPU a sweep trains them together by itself.
SIDE_BY_SIDE = ["-m", *([] if torch.cuda.is_available() else ["hydra/launcher=joblib"])]


class Claim(NamedTuple):
    """A published sentence, whether our figures support it (None where they do not reach), and these figures."""

    statement: str
    holds: bool | None
    evidence: str


class Picture(NamedTuple):
    """A PNG in the study's folder, and a caption that says what it shows."""

    file: str
    caption: str


class Findings(NamedTuple):
    """What a study has found.

    results: every figure with its machine, date, commit and budget, as results.csv has it.
    table: the same for readers, as strings under the page's headings. Column `runs` has the names of the runs'
    folders.
    notes: deviations from the protocol, and what else a reader must know.
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
    reaches: what each budget trains, in words.
    order: its position in the report. Equal positions are in the order of the folders' names.
    sweeps: argument lists for run.py that a budget trains, one after another. A later one can use the runs of an
    earlier one.
    measure: measures beside the runs, and writes CSV files into the study's folder of the report. It does not
    repeat what the same code has measured of the same records.
    find: the findings, from the experiment's finished runs and that folder, into which it draws pictures.
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
    reaches: Mapping[Budget, str] = {}


def discovered(folder: Path) -> list[Study]:
    """The STUDY of each <folder>/<name>/study.py, in the order of the report. `folder` is an importable package.

    Raises: UserError where such a file has no STUDY, or one with another name than its folder's.
    """
    found = []
    for path in sorted(folder.glob("*/study.py")):
        name = path.parent.name
        study = getattr(importlib.import_module(f"{folder.name}.{name}.study"), "STUDY", None)
        if not isinstance(study, Study) or study.name != name:
            raise UserError(f"{path}: it must define STUDY, a Study whose name is {name}")
        found.append(study)
    return sorted(found, key=lambda study: study.order)
