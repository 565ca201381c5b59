"""Chooses the runs that a table's figure averages: runs that differ in nothing but their seed.

Runs are alike where three things agree: their cell identity (all settings but the seed, with the length of training
and the evaluation), the content of their data, and the code that computed them. Only like runs are averaged.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from evidence.config.schema import roles
from evidence.config.settings import Settings
from evidence.records.identity import VERSION
from evidence.report import codes
from evidence.report.compare import length, mean_and_deviation, seeds

ALIKE = ["cell_identity", "data_digest", "code_digest"]  # tags
EARLIER = "made by an earlier version"
ROUNDING = 0.05  # nats; that of another processor, after a whole training
# The columns that are settings: those that begin with a section, and the plain ones.
SECTIONS = ("data.", "eval.", "model.", "objective.", "trainer.")
PLAIN = ("k", "steps", "eval_samples", "eval_images", "init_from", "precision")
INDIFFERENT = {".".join(path) for path in roles.paths(Settings, roles.Role.LABEL, roles.Role.FILES)}
# What two runs of one comparison may differ in, as the beginnings of columns.
OBJECTIVE = ("objective.", "k")
LENGTH = ("steps", "trainer.stages", "trainer.steps")
EVALUATION = ("eval.", "eval_samples", "eval_images")


class Chosen(NamedTuple):
    """Like runs of each cell, one for each seed, and notes on those that were left out."""

    runs: pd.DataFrame
    notes: list[str]


class Alike(NamedTuple):
    """Runs by what they share.

    kinds: groups of like runs, one run for each seed. mixed: the runs computed by several codes, each in a group of
    its own. unknown: texts that name the runs without the tags of ALIKE, and those that a like run contradicts.
    """

    kinds: list[pd.DataFrame]
    mixed: list[pd.DataFrame]
    unknown: list[str]


class Pairs(NamedTuple):
    """Pairs of runs of one seed, and notes on those that were not compared."""

    runs: list[tuple["pd.Series[str]", "pd.Series[str]"]]
    notes: list[str]


def choose(runs: pd.DataFrame, cell: Sequence[str], published: int | None = None) -> Chosen:
    """Choose one group of like runs for each cell. A cell is a combination of values of these columns.

    It is the group trained longest; of these the one scored on most images, with most samples, with most seeds, and
    the latest. Of each seed the latest run counts. A run computed by several codes (mixed) is like no other, and
    counts only where all others are mixed too. A run without the tags of ALIKE never counts. The notes name the
    groups as long and as well scored that were not chosen, and have the figures of a shorter group of more seeds.

    Two columns say how long a run was trained: `passes`, missing where the length is given in steps, and `budget`,
    as text with the `published` number of passes.
    """
    if runs.empty:
        return Chosen(runs, [])
    runs = complete(runs)
    kept: list[int] = []
    notes = []
    for key, group in runs.groupby(list(cell), dropna=False, sort=False):
        best, left_out, shorter = _chosen(group)
        where = ", ".join(f"{name} {value}" for name, value in zip(cell, key, strict=True))
        if shorter is not None:
            notes.append(f"Beside {where}, which is of {seeds(len(best))}: {_figures(shorter, published)}.")
        if left_out:
            notes.append(f"Left out of {where}: {'; '.join(left_out)}.")
        if len(best) and _mixture(best):
            notes.append(f"No run of {where} is pure. What stands there is {_named(best, _mixture(best))}.")
        kept.extend(best.index)
    found = runs.loc[kept]
    lengths = [length(stages, published) for stages in found["stages"]]
    passes = pd.Series([count for count, _ in lengths], found.index, dtype=float)
    return Chosen(found.assign(passes=passes, budget=[words for _, words in lengths]), notes)


def complete(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs with every column that `alike` reads, under new row numbers."""
    needed = [*ALIKE, "identity_version", "steps", "mixed", "ended"]
    runs = runs.reset_index(drop=True)
    return runs.reindex(columns=[*runs.columns, *(name for name in needed if name not in runs)])


def alike(runs: pd.DataFrame) -> Alike:
    """Group the runs by the tags of ALIKE. The runs have the columns of `complete`."""
    is_current = runs["identity_version"].astype(str) == str(VERSION)
    is_known = runs[[*ALIKE, "steps"]].notna().all(axis=1) & is_current
    known = runs[is_known]
    is_mixed = known["mixed"].notna()
    repeated = [
        like.sort_values("ended", kind="stable", na_position="first")
        for _, like in known[~is_mixed].groupby(ALIKE, sort=False)
    ]
    kinds = [like.drop_duplicates("seed", keep="last") for like in repeated]
    mixed = [known.loc[[index]] for index in known.index[is_mixed]]
    unknown = [] if is_known.all() else [_named(runs[~is_known], EARLIER)]
    return Alike(kinds, mixed, unknown + [text for like in repeated for text in _disagreeing(like)])


def _disagreeing(like: pd.DataFrame) -> Iterator[str]:
    """Yield a text for each run whose NLL is not that of the latest like run of its seed. It should be."""
    for _, same in like.groupby("seed") if "test/nll" in like else []:
        latest = same.iloc[-1]
        for index, nll in same["test/nll"].items():
            if abs(nll - latest["test/nll"]) > ROUNDING:
                reason = f"NLL {nll:.2f}, and `{latest['run']}`, of the same settings, code and seed, has"
                yield _named(same.loc[[index]], f"{reason} {latest['test/nll']:.2f}")


def is_setting(name: str) -> bool:
    """Whether the column is a setting that numbers depend on."""
    return name not in INDIFFERENT and (name in PLAIN or (name.startswith(SECTIONS) and "/" not in name))


def among(runs: pd.DataFrame, values: Mapping[str, Collection[object]]) -> pd.DataFrame:
    """The runs that have one of these values in each of the columns, and start from their seed."""
    if runs.empty:
        return pd.DataFrame(columns=list(values))
    for name, allowed in values.items():
        runs = runs[runs[name].isin(list(allowed))]
    return runs[is_from_seed(runs)]


def is_from_seed(runs: pd.DataFrame) -> "pd.Series[bool]":
    """Which runs start from their seed, and not from another run's model."""
    return runs["init_from"].isna() if "init_from" in runs else pd.Series(True, index=runs.index)


def pairs(runs: pd.DataFrame, others: pd.DataFrame) -> Pairs:
    """Each run with the run of the same seed, where they differ in nothing but the objective and k."""
    found, notes = [], []
    for _, run in runs.iterrows():
        for _, other in others[others["seed"] == run["seed"]].iterrows():
            if different := differences(run, other, OBJECTIVE):
                notes.append(f"`{run['run']}` is not compared with `{other['run']}`: {', '.join(different)}.")
            else:
                found.append((run, other))
    return Pairs(found, notes)


def differences(run: "pd.Series[str]", other: "pd.Series[str]", ignored: tuple[str, ...] = ()) -> list[str]:
    """What distinguishes a run from another, as texts: data, code, and settings except the `ignored` ones."""
    found = []
    for name in run.index:
        if name == "code_digest" and codes.is_same(run, other):
            continue
        word = {"data_digest": "other data", "code_digest": "other code"}.get(name)
        if word is None and (not is_setting(name) or name.startswith(ignored)):
            continue
        ours, theirs = ("not set" if pd.isna(each[name]) else str(each[name]) for each in (run, other))
        if ours != theirs:
            found.append(word or f"{name} {ours}, not {theirs}")
    return found


def _chosen(group: pd.DataFrame) -> tuple[pd.DataFrame, list[str], pd.DataFrame | None]:
    """The like runs of a cell, texts on what was left out of it, and the best shorter group with more seeds."""
    kinds, mixed, left_out = alike(group)
    if kinds:
        left_out += [_named(run, _mixture(run)) for run in mixed]
    kinds = kinds or mixed
    if not kinds:
        return group.head(0), left_out, None
    ranks = _ranks(kinds)
    first = ranks.index(max(ranks))
    for kind, rank in zip(kinds, ranks, strict=True):
        if kind is not kinds[first] and rank[:3] == ranks[first][:3]:
            reasons = differences(kind.iloc[0], kinds[first].iloc[0]) or ["other settings"]
            left_out.append(_named(kind, _mixture(kind) or ", ".join(reasons)))
    others = [(rank, number) for number, rank in enumerate(ranks) if len(kinds[number]) > len(kinds[first])]
    shorter = kinds[max(others)[1]] if others else None
    return kinds[first], left_out, shorter


def _figures(runs: pd.DataFrame, published: int | None) -> str:
    """What like runs have reached, in words."""
    run = runs.iloc[0]
    nll = runs.get("test/nll", pd.Series(dtype=float))
    return (
        f"{length(run['stages'], published)[1]}, {seeds(len(runs))},"
        f" NLL {mean_and_deviation(nll.mean(), nll.std())} nats (± sd over seeds),"
        f" S = {run['eval_samples']}, {run['eval_images']:,} images: {', '.join(f'`{name}`' for name in runs['run'])}"
    )


def _ranks(kinds: Sequence[pd.DataFrame]) -> list[tuple[Any, ...]]:
    """The rank of each group: length, images, samples, seeds, and the latest end.

    The length is in passes where all groups are given in passes, else in steps.
    """
    passes = [length(like["stages"].iloc[0])[0] for like in kinds]
    is_staged = None not in passes
    return [
        (
            count if is_staged else like["steps"].iloc[0],
            like["eval_images"].iloc[0],
            like["eval_samples"].iloc[0],
            len(like),
            like["ended"].fillna("").max(),
        )
        for count, like in zip(passes, kinds, strict=True)
    ]


def _mixture(runs: pd.DataFrame) -> str:
    """What a mixed run was computed by. Empty for other runs."""
    mixed = runs["mixed"].iloc[0]
    return "" if pd.isna(mixed) else f"mixed: {mixed}"


def _named(runs: pd.DataFrame, reason: str) -> str:
    return f"{', '.join(f'`{name}`' for name in runs['run'])} ({reason})"
