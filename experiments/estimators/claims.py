"""What Figure 4 says of the order of the estimators, and what samples gain at an equal number of decoder passes."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from evidence.report.paired import UNMEASURED, Paired, all_below, over, paired
from evidence.report.study import Claim
from experiments.estimators.cells import KS, NAMES, NLL, SNR, Cell, Cells, Kind


class Compared(NamedTuple):
    """A difference that is to be below zero, the passes after which it is taken, and the cells that it rests on."""

    name: str
    difference: Paired
    passes: int | None
    cells: tuple[Cell, ...]


def claims(ends: Cells, curves: Cells) -> list[Claim]:
    """Each is judged at the longest training that the compared cells have in common.

    ends: the cells, each scored on as many images as there are. curves: the cells at all lengths, scored alike.
    """
    path = ("stl", "dreg")
    signal = "the encoder's gradient has a higher signal-to-noise ratio than IWAE's at each k."
    return [
        *(_at_each_k(ends, f"{NAMES[name]} ends below IWAE at each k.", name, "iwae", NLL) for name in path),
        _claim(ends, "Every estimator ends the lower, the more samples it has.", [*_gains(ends)]),
        _claim(ends, "TVO gains the most from k = 5 to 50.", [*_gains_less_than_tvo(ends)]),
        *(_at_each_k(ends, f"{NAMES[name]}: {signal}", "iwae", name, SNR) for name in path),
        *(
            _claim(
                curves,
                f"At equal decoder passes an image every estimator ends lower with k = {k} than with k = {KS[0]}.",
                [_at_equal_cost(curves, name, k) for name in NAMES],
                "decoder passes an image",
            )
            for k in KS[1:]
        ),
    ]


def _claim(cells: Cells, statement: str, compared: Sequence[Compared], unit: str = "passes") -> Claim:
    """The claim that all differences are below zero. It is not judged where one is missing."""
    found = [each for each in compared if each.difference.seeds]
    if not found:
        return Claim(statement, None, "not measured")
    if unlike := next(filter(None, (cells.apart(each.cells) for each in found)), ""):
        return Claim(statement, None, unlike)
    words = "; ".join(f"{each.name} {each.difference}" for each in compared)
    lengths = sorted({each.passes for each in found if each.passes})
    after = f"after {' or '.join(map(str, lengths))} {unit}"
    holds = all_below(each.difference for each in compared)
    return Claim(statement, holds, f"{words}; {after}, {over([each.difference for each in found])}")


def _difference(
    cells: Cells, name: str, ours: Kind, theirs: Kind, passes: int | None, metric: str = NLL
) -> Compared:
    """Ours less theirs after so many passes."""
    if passes is None:
        return Compared(name, UNMEASURED, None, ())
    difference = paired(cells.by_seed(ours, passes, metric), cells.by_seed(theirs, passes, metric))
    return Compared(name, difference, passes, ((*ours, passes), (*theirs, passes)))


def _at_each_k(cells: Cells, statement: str, lower: str, higher: str, metric: str) -> Claim:
    compared = []
    for k in KS:
        name, ours, theirs = f"{NAMES[lower]} less {NAMES[higher]} at k = {k}:", (lower, k), (higher, k)
        compared.append(_difference(cells, name, ours, theirs, cells.end([ours, theirs]), metric))
    return _claim(cells, statement, compared)


def _gains(cells: Cells) -> Iterator[Compared]:
    for name, label in NAMES.items():
        passes = cells.end([(name, k) for k in KS])
        for fewer, more in pairwise(KS):
            yield _difference(
                cells, f"{label}, k = {more} less k = {fewer}:", (name, more), (name, fewer), passes
            )


def _gains_less_than_tvo(cells: Cells) -> Iterator[Compared]:
    few, many = KS[0], KS[-1]
    for name, label in NAMES.items():
        if name == "tvo":
            continue
        kinds = [(each, k) for each in (name, "tvo") for k in (few, many)]
        passes = cells.end(kinds)
        title = f"{label}'s gain less TVO's:"
        if passes is None:
            yield Compared(title, UNMEASURED, None, ())
            continue
        gain, tvo = (
            cells.by_seed((each, few), passes, NLL) - cells.by_seed((each, many), passes, NLL)
            for each in (name, "tvo")
        )
        yield Compared(title, paired(gain, tvo), passes, tuple((*kind, passes) for kind in kinds))


def _at_equal_cost(cells: Cells, name: str, k: int) -> Compared:
    """At the most decoder passes that both numbers of samples have reached, interpolated where no run ends there."""
    label, kinds = f"{NAMES[name]}:", ((name, k), (name, KS[0]))
    reached = [[kind[1] * passes for passes in cells.lengths(kind)] for kind in kinds]
    cost = min(max(each, default=0) for each in reached)
    if any(cost < min(each, default=1) for each in reached):
        return Compared(label, UNMEASURED, None, ())
    more, fewer = (cells.at(kind, cost) for kind in kinds)
    lengths = tuple((*kind, passes) for kind in kinds for passes in cells.lengths(kind))
    return Compared(label, paired(more, fewer), cost, lengths)
