"""Says whether two runs were computed by the same code, also runs of unlike objectives or models.

The hash `code_digest` of a run covers its own objective and model. So it differs between unlike ones, though nobody
has changed a line. What such runs have in common must agree: all mathematics of this package (the tag `code_package`),
and in the tag `code` each file of the user's and each version of a package that both use.
"""

import json
from collections.abc import Mapping
from itertools import combinations
from typing import Any

import pandas as pd

OF_ITS_OWN = "evidence"  # the entry of `code` that covers the run's own objective and model
KIND = ("objective", "variant", "model")
TAGS = ("code_digest", "code", "code_package", "version_torch", "git_commit", "git_dirty")


def are_same(runs: pd.DataFrame) -> bool:
    """Whether one code has computed all runs."""
    distinct = runs.drop_duplicates([name for name in (*KIND, *TAGS) if name in runs])
    rows = [row for _, row in distinct.iterrows()]
    return all(is_same(*pair) for pair in combinations(rows, 2))


def is_same(run: "pd.Series[str]", other: "pd.Series[str]") -> bool:
    """Whether one code has computed both runs."""
    if run.get("code_digest") == other.get("code_digest"):
        return True
    is_one_package = _share(run, other, "code_package") or _have_one_commit(run, other)
    if not (_are_unlike(run, other) and is_one_package and _share(run, other, "version_torch")):
        return False
    ours, theirs = _code(run), _code(other)
    return all(ours[name] == theirs[name] for name in (ours.keys() & theirs.keys()) - {OF_ITS_OWN})


def _are_unlike(run: "pd.Series[str]", other: "pd.Series[str]") -> bool:
    """Whether the runs have other objectives or models. A setting that is not told is not another."""
    return any(str(run.get(name)) != str(other.get(name)) for name in KIND)


def _have_one_commit(run: "pd.Series[str]", other: "pd.Series[str]") -> bool:
    """Whether both are of one commit without changes. Runs of earlier versions have no hash of the package."""
    return run.get("git_dirty") == other.get("git_dirty") == "false" and _share(run, other, "git_commit")


def _share(run: "pd.Series[str]", other: "pd.Series[str]", tag: str) -> bool:
    return isinstance(run.get(tag), str) and run[tag] == other.get(tag)


def _code(run: "pd.Series[str]") -> Mapping[str, Any]:
    text = run.get("code")
    return json.loads(text) if isinstance(text, str) else {}
