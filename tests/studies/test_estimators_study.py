"""The study of estimators, from made-up runs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from frames import frame

from evidence.report.study import Claim
from experiments.estimators import drawing, study
from experiments.estimators.cells import KS, NAMES, Cells
from experiments.estimators.claims import claims
from experiments.estimators.study import find

STL, DREG, MORE, TVO, STL_SNR, DREG_SNR, TEN, FIFTY = range(8)
BELOW_IWAE = {"iwae": 0.0, "stl": 1.0, "dreg": 0.9, "vr_iwae": 0.3, "tvo": -2.0}
STAGES = {1: 1, 2: 4, 3: 13}

Nll = Callable[[str, int, int], float]


def published(name: str, k: int, passes: int) -> float:
    """The published order. Twice the samples gain more than twice the passes, so that they pay at equal cost."""
    gain = 4 if name == "tvo" else 3
    return 140 - 2 * np.log(passes) - gain * np.log(k / KS[0]) - BELOW_IWAE[name]


def runs(nll: Nll = published, seeds: int = 2, **changes: Any) -> pd.DataFrame:
    """Every cell, with the same differences in each seed."""
    return frame(
        *(
            {
                "data": "mnist_fixed",
                "variant": "num_exact=None",
                "objective": name,
                "objective.alpha": "0.7" if name == "vr_iwae" else None,
                "k": k,
                "stages": str(stages),
                "seed": seed,
                "test/nll": nll(name, k, passes) + seed / 10,
                "test/kl": 20.0,
                "test/effective_sample_size": 4.0,
                "test/khat_above": 0.9,
                "test/snr_encoder": 0.6 if name in ("stl", "dreg") else 0.3,
                "trainer.learning_rate": "0.0003",
            }
            | changes
            for name in NAMES
            for k in KS
            for stages, passes in STAGES.items()
            for seed in range(seeds)
        )
    )


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pictures, which take most of the time."""
    for name in ("draw_nll", "draw_differences", "draw_training"):
        monkeypatch.setattr(drawing, name, lambda *_: None)


def judged(made: pd.DataFrame) -> list[Claim]:
    """The claims alone, without pictures."""
    made, _ = study._studied(made)
    ends, curves = study.choose(made, study.CELL).runs, study.scored_alike(made)
    return claims(*(Cells.of(runs, study._results(runs)) for runs in (ends, curves)))


def test_the_published_order_bears_all_claims_out(tmp_path: Path) -> None:
    found = find(runs(), tmp_path)
    assert [claim.holds for claim in found.claims] == [True] * 8
    assert all((tmp_path / picture.file).is_file() for picture in found.pictures)
    assert "after 13 passes, 2 seeds (± se over seeds)" in found.claims[STL].evidence
    assert "after 65 decoder passes an image" in found.claims[FIFTY].evidence
    assert not [note for note in found.notes if "not as the study trains" in note or "eft out" in note]


def test_a_difference_is_of_the_seeds_that_both_have() -> None:
    made = runs()
    (seed, other) = sorted(made["seed"].unique())[:2]
    worse = (made["objective"] == "iwae") & (made["seed"] == other)
    made.loc[worse, "test/nll"] += 7
    made = made[(made["objective"] != "stl") | (made["seed"] == seed)]
    chosen = study.choose(study._studied(made)[0], study.CELL).runs
    cells = Cells.of(chosen, study._results(chosen))
    cell = ("stl", 5, 13)
    expected = cells.by_seed(("stl", 5), 13, "test/nll") - cells.by_seed(("iwae", 5), 13, "test/nll")[seed]
    assert cells.less_iwae(cell).to_dict() == {seed: pytest.approx(expected[seed])}
    assert cells.less_iwae(("iwae", 5, 13)).tolist() == [0, 0]


@pytest.mark.usefixtures("undrawn")
def test_a_row_is_an_estimator_at_an_end_of_training(tmp_path: Path) -> None:
    found = find(runs(), tmp_path)
    assert len(found.results) == len(NAMES) * len(KS) * len(STAGES)
    first = found.results[found.results["objective"] == "iwae"]
    assert list(zip(first["k"], first["passes"], strict=True)) == [(k, p) for k in KS for p in (1, 4, 13)]
    assert found.table["SNR, encoder"].iloc[0] == "0.300 ± 0.000"
    assert found.table["published, training images"].iloc[0] == "85.45"


def changed(name: str, k: int, by: float) -> Nll:
    """The published order with one cell moved, at the end of training."""
    return lambda *cell: published(*cell) + by * (cell == (name, k, 13))


@pytest.mark.parametrize(
    ("nll", "claim"),
    [
        (changed("stl", 10, 1.5), STL),
        (changed("dreg", 50, 1.5), DREG),
        (changed("vr_iwae", 10, 3.0), MORE),
        (changed("tvo", 50, 3.0), TVO),
        (changed("stl", 10, 3.0), TEN),
        (lambda name, k, passes: published(name, k, passes) + np.log(k), FIFTY),
    ],
)
def test_another_order_is_found_out(nll: Nll, claim: int) -> None:
    assert judged(runs(nll))[claim].holds is False


@pytest.mark.usefixtures("undrawn")
def test_signal_is_shown_where_it_is_measured(tmp_path: Path) -> None:
    low = judged(runs(**{"test/snr_encoder": 0.3}))
    assert [low[claim].holds for claim in (STL_SNR, DREG_SNR)] == [None, None]  # a tie
    made = runs()
    made.loc[(made["objective"] == "iwae") & (made["k"] == 5), "test/snr_encoder"] = 0.9
    assert [judged(made)[claim].holds for claim in (STL_SNR, DREG_SNR)] == [False, False]
    without = find(runs().drop(columns="test/snr_encoder"), tmp_path)
    assert [without.claims[claim].evidence for claim in (STL_SNR, DREG_SNR)] == ["not measured"] * 2
    assert not {"SNR, encoder", "SNR, decoder"} & {*without.table}
    assert "snr_encoder" not in without.results


def test_with_nothing_measured_no_claim_is_judged(tmp_path: Path) -> None:
    found = find(pd.DataFrame(), tmp_path)
    assert found.results.empty
    assert found.table.empty
    assert [claim.holds for claim in found.claims] == [None] * 8


def test_a_claim_waits_for_every_k() -> None:
    made = runs(seeds=1)
    found = judged(made[made["k"] == 5])
    assert [claim.holds for claim in found] == [None] * 8
    assert "k = 5: -1.00" in found[STL].evidence
    assert found[STL].evidence.endswith("one seed")


def test_cells_are_compared_after_the_passes_that_they_share() -> None:
    made = runs()
    made = made[~((made["objective"] == "stl") & (made["k"] == 50) & (made["stages"] == "3"))]
    assert "after 4 or 13 passes" in judged(made)[STL].evidence


def test_figures_on_unlike_images_are_not_compared() -> None:
    longest = runs(seeds=1, stages="4")
    longest.loc[longest["objective"] == "iwae", "eval_images"] = 2000
    claim = judged(pd.concat([runs(), longest], ignore_index=True))[STL]
    assert claim.holds is None
    assert claim.evidence == "not compared: test images 10000 and 2000"


def test_the_last_ends_are_scored_on_all_images_and_all_ends_alike_on_few() -> None:
    few = runs(lambda *cell: published(*cell) + 7, seeds=1, eval_images=1000)
    last = runs(seeds=3)
    found = judged(pd.concat([few, last[last["stages"] == "3"]], ignore_index=True))
    assert [claim.holds for claim in found] == [True] * 8
    assert "STL less IWAE at k = 5: -1.00 ± 0.00" in found[STL].evidence
    assert "after 13 passes, 3 seeds" in found[STL].evidence
    alone = judged(few)
    assert found[TEN] == alone[TEN]
    assert found[FIFTY].evidence.endswith("one seed")


def test_fewer_samples_have_no_equal_cost_until_their_training_overlaps() -> None:
    made = runs()
    found = judged(made[made["stages"].isin(["1", "2"])])
    assert (found[TEN].holds, found[FIFTY].holds) == (
        True,
        None,
    )  # 20 of 10 to 40; 20 of 50 to 200


def test_between_two_ends_the_nll_is_linear_in_the_log_of_passes() -> None:
    alike = study.scored_alike(runs(seeds=1))
    cells = Cells.of(alike, study._results(alike))
    kind = ("iwae", 5)
    middle = cells.at(kind, np.sqrt(20 * 65))
    ends = [cells.by_seed(kind, passes, "test/nll")[0] for passes in (4, 13)]
    assert middle.to_dict() == pytest.approx({0: sum(ends) / 2})
    assert cells.at(kind, 65)[0] == ends[-1]


@pytest.mark.usefixtures("undrawn")
def test_another_alpha_is_left_out_and_named(tmp_path: Path) -> None:
    other = runs(seeds=1, **{"objective.alpha": "0.5", "run": "other"})
    other = other[(other["objective"] == "vr_iwae") & (other["k"] == 5) & (other["stages"] == "3")]
    found = find(pd.concat([runs(), other.assign(seed=7)], ignore_index=True), tmp_path)
    assert set(found.results["seeds"]) == {2}
    assert "Left out: `other` (alpha is not 0.7)." in found.notes


def test_shorter_lengths_given_in_steps_are_not_the_studys(tmp_path: Path) -> None:
    assert find(runs(stages="500 steps"), tmp_path).results.empty
