"""What Table 1 says of the order of the objectives, and what L_64 and L_5000 cannot do."""

import math
from collections.abc import Sequence

import pandas as pd

from evidence.report.compare import apart, mean_and_deviation
from evidence.report.paired import Paired, all_below, by_seed, over, paired
from evidence.report.study import Claim
from experiments.iwae_table1.paper import SAMPLES

K = 64  # samples in all
NAMES = {
    "iwae": f"IWAE({K})",
    "piwae": "PIWAE(8, 8)",
    "miwae": "MIWAE(8, 8)",
    "ciwae": "CIWAE(0.5)",
    "vae": "VAE",
}
NLL, GROUP, GAP = "test/nll", "test/nll_group", "test/gap"
BOUNDS = (GROUP, NLL)
METRICS = {GROUP: f"-L_{K}", NLL: f"-L_{SAMPLES}", GAP: "the difference"}


def claims(chosen: pd.DataFrame, results: pd.DataFrame) -> list[Claim]:
    """Of the chosen runs and their summaries."""
    others = [name for name in NAMES if name != "vae"]
    return [
        _order(
            chosen,
            results,
            f"PIWAE ends at least as well as IWAE, by L_{K} and by L_{SAMPLES}.",
            [("piwae", "iwae", metric) for metric in BOUNDS],
            or_equal=True,
        ),
        _order(
            chosen,
            results,
            f"MIWAE has the best L_{K}.",
            [("miwae", name, GROUP) for name in NAMES if name != "miwae"],
        ),
        _order(
            chosen,
            results,
            f"The VAE is last by L_{K} and by L_{SAMPLES}.",
            [(name, "vae", metric) for metric in BOUNDS for name in others],
        ),
        _order(
            chosen,
            results,
            f"The difference L_{SAMPLES} - L_{K} is largest for IWAE.",
            [(name, "iwae", GAP) for name in NAMES if name != "iwae"],
        ),
        _jensen(results),
    ]


def slack(samples: int) -> float:
    """By how much L_64 can lie above L_S on an image where both are from the same S weights, in nats.

    The S mod 64 weights that make no whole group are in L_S alone. At worst they are zero.
    """
    return math.log(samples / (samples // K * K)) if samples >= K else 0.0


def _order(
    chosen: pd.DataFrame,
    results: pd.DataFrame,
    statement: str,
    comparisons: Sequence[tuple[str, str, str]],
    or_equal: bool = False,
) -> Claim:
    """Each comparison is an objective, another one, and the metric in which the first is to be lower."""
    if results.empty:
        return Claim(statement, None, "not measured")
    rows = {row["objective"]: row for _, row in results.iterrows()}
    missing = [
        NAMES[name] for name in NAMES if any(name in each for each in comparisons) and name not in rows
    ]
    if missing:
        return Claim(statement, None, f"not measured: {', '.join(missing)}")
    named = [rows[name] for each in comparisons for name in each[:2]]
    if unlike := apart(named):
        return Claim(statement, None, unlike)
    found = {each: _difference(chosen, *each) for each in comparisons}
    figures = [
        f"{NAMES[ours]} less {NAMES[theirs]} {difference} in {METRICS[metric]}"
        for (ours, theirs, metric), difference in found.items()
    ]
    rests = f"{named[0]['budget']}, {over(found.values())}"
    return Claim(statement, all_below(found.values(), or_equal), f"{'; '.join(figures)} nats; {rests}")


def _difference(chosen: pd.DataFrame, ours: str, theirs: str, metric: str) -> Paired:
    first, second = (by_seed(chosen[chosen["objective"] == name], metric) for name in (ours, theirs))
    return paired(first, second)


def _jensen(results: pd.DataFrame) -> Claim:
    statement = f"L_{K} never lies above L_{SAMPLES}."
    if results.empty:
        return Claim(statement, None, "not measured")
    holds = all(row["gap"] >= -slack(SAMPLES) for _, row in results.iterrows())
    figures = ", ".join(
        f"{NAMES[row['objective']]} {mean_and_deviation(row['gap'], row['gap_sd'])}"
        for _, row in results.iterrows()
    )
    return Claim(
        statement,
        holds,
        f"L_{SAMPLES} - L_{K}: {figures} nats; from the same weights, where it must hold on every image",
    )
