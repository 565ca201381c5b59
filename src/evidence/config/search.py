"""Checks the space of a search.

A search proposes its jobs one by one, so its jobs cannot all be checked beforehand.
"""

from collections.abc import Sequence

from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep

from evidence.errors import UserError


def corners(overrides: Sequence[Override]) -> list[list[str]]:
    """Jobs that together have every choice, and both ends of every range, that a search may propose.

    Raises: UserError for a space that cannot be searched.
    """
    candidates = [_candidates(override) for override in overrides]
    count = max((len(lines) for lines in candidates), default=1)
    return [[lines[number % len(lines)] for lines in candidates] for number in range(count)]


def _candidates(override: Override) -> list[str]:
    line, key, value = str(override.input_line), override.get_key_element(), override.value()
    if not override.is_sweep_override():
        return [line]
    if isinstance(value, IntervalSweep | RangeSweep):
        start, end = value.start, value.end if isinstance(value, IntervalSweep) else value.stop
        assert start is not None  # nor end: the grammar demands both
        assert end is not None
        if start > end:
            raise UserError(f"{line}: the lower end comes first")
        if "log" in value.tags and start <= 0:
            raise UserError(f"{line}: on a logarithmic scale both ends must be above 0")
        return [f"{key}={start}", f"{key}={end}"]
    if not isinstance(value, ChoiceSweep):
        raise UserError(f"{line}: a search takes choice(...), range(...) or interval(...)")
    return [f"{key}={choice}" for choice in override.sweep_string_iterator()]
