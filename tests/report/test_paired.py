"""Differences over seeds, and when they count."""

import math

import pandas as pd
import pytest

from evidence.report.paired import UNMEASURED, Paired, all_below, by_seed, errors, over, paired

BELOW, ABOVE = Paired(-1.0, 0.2, 3), Paired(1.0, 0.2, 3)
TIED, UNTOLD = Paired(-1.0, 0.3, 3), Paired(5.0, 3.0, 2)


def test_only_seeds_that_both_have_are_compared() -> None:
    ours, theirs = pd.Series({0: 1.0, 1: 2.0, 5: 9.0}), pd.Series({1: 4.0, 0: 2.0})
    found = paired(ours, theirs)
    assert (found.mean, found.seeds) == (-1.5, 2)
    assert found.se == pytest.approx(0.5)
    assert str(found) == "-1.50 ± 0.50"
    assert over([found]) == "2 seeds (± se over seeds)"


def test_one_seed_has_no_error_and_is_judged_by_its_sign() -> None:
    found = paired(pd.Series({3: 1.0}), pd.Series({3: 1.1}))
    assert (found.sign, found.seeds) == (-1, 1)
    assert math.isnan(found.se)
    assert (str(found), over([found])) == ("-0.10", "one seed")


def test_no_common_seed_is_not_measured() -> None:
    found = paired(pd.Series({3: 1.0}), pd.Series({4: 1.1}))
    assert (found.sign, found.seeds, str(found)) == (0, 0, "not measured")


@pytest.mark.parametrize(
    ("differences", "below", "not_above"),
    [
        ([BELOW, BELOW], True, True),
        ([BELOW, TIED], None, True),
        ([BELOW, UNTOLD], None, None),
        ([BELOW, TIED, ABOVE], False, False),
        ([BELOW, UNMEASURED], None, None),
        ([], None, None),
    ],
)
def test_a_difference_counts_whose_confidence_interval_leaves_out_zero(
    differences: list[Paired], below: bool | None, not_above: bool | None
) -> None:
    assert all_below(differences) is below
    assert all_below(differences, or_equal=True) is not_above


def test_the_interval_is_students() -> None:
    """The 97.5% quantiles of Student's t, from a printed table."""
    assert [errors(seeds) for seeds in (2, 3, 5, 10)] == pytest.approx(
        [12.706, 4.303, 2.776, 2.262], abs=1e-3
    )


def test_runs_without_the_metric_have_no_seed() -> None:
    runs = pd.DataFrame({"seed": [0, 1], "test/nll": [5.0, math.nan]})
    assert by_seed(runs, "test/nll").to_dict() == {0: 5.0}
    assert by_seed(runs, "test/kl").empty
