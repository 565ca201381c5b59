"""Where a figure comes from, in columns: machine, date and commit, and what a measurement was made of.

A measurement stands for the code that made it (`source`) and, on a trained run, for its record (`record`).
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import torch

from evidence.runs import provenance

ORIGIN = ("machine", "date", "commit")
TEXTS = dict.fromkeys(("source", "record", "run", "date", "commit"), str)  # 12e4567 is a commit and no number


def here(device: torch.device) -> dict[str, str]:
    """machine, date and commit of what is measured now, on this device."""
    facts = provenance.provenance()
    commit = facts["git_commit"][:7] + ("+" if facts["git_dirty"] == "true" else "")
    today = datetime.now(UTC).date().isoformat()
    machine = torch.cuda.get_device_name(device) if device.type == "cuda" else facts["processor"]
    return {"machine": machine, "date": today, "commit": commit}


def origin(rows: pd.DataFrame) -> dict[str, str]:
    """Every machine, date and commit of these rows."""
    return {name: "; ".join(dict.fromkeys(rows[name])) for name in ORIGIN}


def source(module: str) -> dict[str, str]:
    """The code of a measuring module as it is today: a hash of it and of all that it imports."""
    return {"source": provenance.source_digest(module)}


def read(path: Path, same: Mapping[str, object]) -> pd.DataFrame:
    """The rows of a CSV file that have these values.

    None where there is no file, or where its columns do not tell by which code it was measured.
    """
    table = pd.read_csv(path, dtype=TEXTS) if path.exists() else pd.DataFrame()
    if not {"source", *same} <= {*table}:
        return pd.DataFrame()
    for name, value in same.items():
        table = table[table[name] == value]
    return table


def notes(module: str, tables: Sequence[pd.DataFrame]) -> list[str]:
    """A note where some rows were measured by other code than today's."""
    if {each for table in tables for each in table["source"]} <= {*source(module).values()}:
        return []
    return [
        "Some of these figures were measured by other code than today's; the command measures them again."
    ]
