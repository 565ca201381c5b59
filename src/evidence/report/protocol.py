"""What a study's own command lines ask for, and whether the runs that it shows were run so."""

import functools
from collections.abc import Iterator, Sequence

import pandas as pd

from evidence import tracking
from evidence.config import compose
from evidence.config.settings import Settings
from evidence.errors import UserError
from evidence.report.frame import ROOT
from evidence.report.selection import EVALUATION, INDIFFERENT, LENGTH, SECTIONS

CONF = ROOT / "conf"
NOT_ASKED = (*LENGTH, *EVALUATION)  # these the budget decides, and the tables show them
RUN = ["objective", "k", "model", "data"]


def asked(arguments: Sequence[str]) -> list[Settings]:
    """The settings of each job that `run.py` makes of the arguments; raises UserError."""
    read, _ = compose.read_arguments([*arguments])
    return [job.settings for job in compose.request(CONF, read).jobs]


def notes(experiment: str, runs: pd.DataFrame, ignored: tuple[str, ...] = ()) -> list[str]:
    """In what the settings of runs are not those that conf/experiment/ gives a run of their objective and k.

    Length and evaluation are left out, and settings that begin as one of `ignored`. MLflow has the settings of runs
    since it is sent them.
    """
    found = []
    for key, group in runs.groupby(RUN, sort=False) if len(runs) else []:
        expected = _expected(
            experiment, tuple(f"{name}={value}" for name, value in zip(RUN, key, strict=True))
        )
        for words, ours in _grouped(group, expected, (*NOT_ASKED, *INDIFFERENT, *ignored)):
            found.append(f"{ours} not as the study trains: {words}.")
    return found


def unlike(runs: pd.DataFrame, where: str) -> list[str]:
    """A note where the runs behind the figures that are compared do not agree in their code or data."""
    tags = {"code_digest": "code", "data_digest": "data"}
    found = [word for tag, word in tags.items() if len(runs) and runs[tag].nunique() > 1]
    return (
        [f"{where}: the runs that are compared do not have the same {' and '.join(found)}."] if found else []
    )


def _grouped(
    runs: pd.DataFrame, expected: dict[str, str], ignored: tuple[str, ...]
) -> Iterator[tuple[str, str]]:
    """What differs from the expected settings, and the runs in which it does."""
    names = [
        name
        for name in runs.columns
        if name.startswith(SECTIONS) and "/" not in name and not name.startswith(ignored) and name in expected
    ]
    by_words: dict[str, list[str]] = {}
    for _, run in runs.iterrows():
        others = [
            f"{name} {run[name]}, not {expected[name]}"
            for name in names
            if pd.notna(run[name]) and run[name] != expected[name]
        ]
        by_words.setdefault(", ".join(others), []).append(f"`{run['run']}`")
    yield from ((words, ", ".join(ours)) for words, ours in by_words.items() if words)


@functools.cache
def _expected(experiment: str, choices: tuple[str, ...]) -> dict[str, str]:
    """The settings by dotted keys; none where the choices are no longer to be had, such as a user's own model."""
    try:
        read, _ = compose.read_arguments([f"experiment={experiment}", *choices])
        (job, *_) = compose.request(CONF, read).jobs
    except UserError:
        return {}
    return tracking.flattened(job.settings.model_dump(by_alias=True))
