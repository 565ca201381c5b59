"""The study of tighter bounds, from made-up runs."""

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from frames import frame

from evidence.evaluation import Jackknife
from evidence.report.study import Claim
from experiments.tighter_bounds import study
from experiments.tighter_bounds.claims import NAMES, K, claims, slack
from experiments.tighter_bounds.study import find

PIWAE, MIWAE, LAST, LARGEST, JENSEN = range(5)
# -L_64 and -L_5000, in the published order
FIGURES = {
    "iwae": (98.0, 96.0),
    "piwae": (97.5, 95.9),
    "miwae": (97.0, 96.3),
    "ciwae": (97.9, 96.9),
    "vae": (98.9, 98.5),
}


def runs(
    figures: dict[str, tuple[float, float]] | None = None, seeds: int = 3, **changes: Any
) -> pd.DataFrame:
    """A few seeds of each objective, which differ by 0.1 a seed and have the same differences to each other."""
    return frame(
        *(
            {
                "objective": name,
                "k": K,
                "variant": "num_exact=None",
                "stages": "2",
                "seed": seed,
                "test/nll_group": group + seed / 10,
                "test/nll": nll + seed / 10,
                "test/effective_sample_size": 30.0,
                "eval.metrics.jackknife.group": "64",
            }
            | changes
            for name, (group, nll) in (FIGURES | (figures or {})).items()
            for seed in range(seeds)
        )
    )


def judged(made: pd.DataFrame) -> list[Claim]:
    """The claims alone, without pictures."""
    chosen = study._chosen(made).runs
    return claims(chosen, study._results(chosen))


def test_the_published_order_bears_all_claims_out(tmp_path: Path) -> None:
    found = find(runs(), tmp_path)
    assert [claim.holds for claim in found.claims] == [True] * 5
    assert found.results["objective"].tolist() == [*NAMES]
    assert found.results["gap"].round(6).tolist() == [2.0, 1.6, 0.7, 1.0, 0.4]
    row = found.table.iloc[1]
    assert row[f"L_5000 - L_{K} (± sd over seeds)"] == "1.60 ± 0.00"
    assert (row["published -L_64"], row["published -L_5000"]) == ("85.74 ± 0.07", "84.46 ± 0.06")
    assert "3 seeds (± se over seeds)" in found.claims[PIWAE].evidence
    assert all((tmp_path / picture.file).is_file() for picture in found.pictures)


@pytest.mark.parametrize(
    ("figures", "claim"),
    [
        ({"piwae": (98.1, 95.9)}, PIWAE),
        ({"piwae": (97.5, 96.1)}, PIWAE),
        ({"ciwae": (96.9, 96.5)}, MIWAE),
        ({"vae": (97.95, 97.0)}, LAST),
        ({"iwae": (98.0, 98.6)}, LAST),
        ({"piwae": (97.9, 95.8)}, LARGEST),
        ({"miwae": (97.0, 97.1)}, JENSEN),
    ],
)
def test_another_order_is_found_out(figures: dict[str, tuple[float, float]], claim: int) -> None:
    assert judged(runs(figures))[claim].holds is False


def test_a_tie_is_at_least_as_well_and_is_not_the_best() -> None:
    made = runs({"piwae": FIGURES["iwae"], "miwae": FIGURES["iwae"], "ciwae": (98.5, 97.0)})
    noise = made["seed"].map({0: 0.1, 1: -0.2, 2: 0.1}) * made["objective"].isin(["piwae", "miwae"])
    found = judged(made.assign(**{name: made[name] + noise for name in ("test/nll", "test/nll_group")}))
    assert (found[PIWAE].holds, found[MIWAE].holds) == (True, None)


def test_a_claim_waits_for_every_objective() -> None:
    made = runs()
    found = judged(made[made["objective"] != "ciwae"])
    assert (found[PIWAE].holds, found[MIWAE].holds) == (True, None)
    assert found[MIWAE].evidence == "not measured: CIWAE(0.5)"


def test_one_seed_is_said() -> None:
    claim = judged(runs(seeds=1))[PIWAE]
    assert claim.holds is True
    assert "4 of 3280 passes, one seed" in claim.evidence


def test_with_nothing_measured_no_claim_is_judged(tmp_path: Path) -> None:
    for nothing in (pd.DataFrame(), runs().drop(columns="test/nll_group")):
        found = find(nothing, tmp_path)
        assert found.results.empty
        assert [claim.holds for claim in found.claims] == [None] * 5
        assert found.pictures == []


def test_runs_of_unlike_lengths_are_not_compared() -> None:
    made = runs()
    longer = made["objective"] == "vae"
    made = pd.concat([made[~longer], runs(stages="3")[longer.to_numpy()]], ignore_index=True)
    found = judged(made)
    assert found[PIWAE].holds is True
    assert found[LAST].holds is None
    assert found[LAST].evidence == "not compared: trained 4 of 3280 passes and 13 of 3280 passes"


@pytest.mark.parametrize(
    "changes", [{"variant": "num_exact=4"}, {"eval_samples": 500}, {"eval.metrics.jackknife.group": "50"}]
)
def test_other_runs_are_not_the_studys(changes: dict[str, Any], tmp_path: Path) -> None:
    assert find(runs(**changes), tmp_path).results.empty


def test_the_slack_is_reached_by_the_weights_that_are_in_no_group() -> None:
    """Equal weights, but for those in no group, which are zero: L_64 lies above L_S by as much as it can."""
    samples = 150
    log_weights = torch.zeros(samples, 1, dtype=torch.float64)
    log_weights[128:] = -math.inf
    whole = -(log_weights.logsumexp(0) - math.log(samples))
    group = Jackknife(K)(None, torch.zeros(1, 1), log_weights)["nll_group"]  # type: ignore[arg-type]
    assert (whole - group).item() == pytest.approx(slack(samples))
    assert slack(128) == 0.0
    assert slack(5000) == pytest.approx(0.0016, abs=1e-4)
