"""Compares the settings of a study's runs with those that its own command lines ask for."""

import functools
from collections.abc import Sequence

import pandas as pd

from evidence import project, tracking
from evidence.config import compose
from evidence.config.settings import Settings
from evidence.errors import UserError
from evidence.report import codes
from evidence.report.selection import EVALUATION, LENGTH, SECTIONS, differences

NOT_ASKED = (*LENGTH, *EVALUATION)  # the budget decides these, and the tables show them
RUN = ["objective", "k", "model", "data"]


def asked(arguments: Sequence[str]) -> list[Settings]:
    """The settings of each job that `run.py` makes of the arguments; raises UserError."""
    read, _ = compose.read_arguments([*arguments])
    return [job.settings for job in compose.request(project.CONF, read).jobs]


def notes(experiment: str, runs: pd.DataFrame, ignored: tuple[str, ...] = ()) -> list[str]:
    """Notes on runs whose settings are not those that conf/experiment/ gives a run of their objective and k.

    Length and evaluation are left out, and so are settings that begin with one of `ignored`. A setting is compared
    only if the run has it as a param in MLflow.
    """
    found: dict[tuple[str, ...], list[str]] = {}
    for _, run in runs.iterrows():
        kind = tuple(f"{name}={run[name]}" for name in RUN)
        expected = _expected(experiment, kind)
        settings = [name for name in run.dropna().index if name in expected and name.startswith(SECTIONS)]
        words = differences(run[settings], pd.Series(expected, dtype=object), (*NOT_ASKED, *ignored))
        if words:
            found.setdefault((*kind, ", ".join(words)), []).append(f"`{run['run']}`")
    return [f"{', '.join(ours)} not as the study trains: {words}." for (*_, words), ours in found.items()]


def unlike(runs: pd.DataFrame, where: str) -> list[str]:
    """A note where the compared runs do not agree in their code or data."""
    found = []
    if len(runs):
        if not codes.are_same(runs):
            found.append("code")
        if runs["data_digest"].nunique() > 1:
            found.append("data")
    return (
        [f"{where}: the runs that are compared do not have the same {' and '.join(found)}."] if found else []
    )


@functools.cache
def _expected(experiment: str, choices: tuple[str, ...]) -> dict[str, str]:
    """The settings by dotted keys. Empty where a choice no longer exists, such as a user's own model."""
    try:
        (settings, *_) = asked([f"experiment={experiment}", *choices])
    except UserError:
        return {}
    return tracking.flattened(settings.model_dump(by_alias=True))
