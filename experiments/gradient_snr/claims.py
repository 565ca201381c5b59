"""What the ratios say for and against the papers."""

from collections.abc import Mapping

import pandas as pd

from evidence.report.study import Claim
from experiments.gradient_snr.estimators import ESTIMATORS, KS
from experiments.gradient_snr.measuring import TRAINED_KS

NEAR = 0.1  # of a slope to that of the theory
SPAN = 2  # steps of k over which a slope is taken, a factor of 16
GAUSSIAN, TRAINED = "linear-Gaussian", "MNIST"
STATEMENTS = (
    "The IWAE's encoder gradient loses its signal as 1/sqrt(k); its decoder's gains as sqrt(k).",
    "Without the score it gains as sqrt(k): STL and DReG, where q is not the posterior.",
    "Every estimator's encoder has the slope of the theory.",
    "On MNIST the orders of large k are not reached: DReG's ratio falls with k, and stays above the IWAE's.",
)


def judge(results: pd.DataFrame, budget: str) -> list[Claim]:
    """Of the study's results; `budget` says how the trained model was trained."""
    models = set(results["model"]) if len(results) else set()
    of_gaussian = _gaussian(results) if GAUSSIAN in models else _unmeasured(STATEMENTS[:3])
    of_trained = [_trained(results, budget)] if TRAINED in models else _unmeasured(STATEMENTS[3:])
    return [*of_gaussian, *of_trained]


def slope(row: "pd.Series[float]") -> str:
    """With its standard error."""
    return f"{row['slope']:+.2f} ± {row['slope_se']:.2f}"


def last_slope(rows: pd.DataFrame) -> str:
    """Of the row with the largest k, empty where it is not measured."""
    return "" if rows.empty or pd.isna(rows.iloc[-1]["slope"]) else slope(rows.iloc[-1])


def _unmeasured(statements: tuple[str, ...]) -> list[Claim]:
    return [Claim(statement, None, "not measured") for statement in statements]


def _gaussian(results: pd.DataFrame) -> list[Claim]:
    rows = results[results["model"] == GAUSSIAN]
    ends = rows[rows["k"] == KS[-1]].set_index(["estimator", "part"]).dropna(subset="slope")

    def claim(statement: str, theory: Mapping[tuple[str, str], float], shows_all: bool) -> Claim:
        if missing := [", ".join(pair) for pair in theory if pair not in ends.index]:
            return Claim(statement, None, f"not measured: {'; '.join(missing)}")
        off = [pair for pair, of_theory in theory.items() if abs(ends["slope"][pair] - of_theory) >= NEAR]
        shown = "; ".join(f"{', '.join(pair)} {slope(ends.loc[pair])}" for pair in theory)
        away = f"more than {NEAR} away: {', '.join(name for name, _ in off) or 'none'}"
        figures = f"slope from k = {KS[-1 - SPAN]} to {KS[-1]}: {shown}" if shows_all else away
        return Claim(statement, not off, figures)

    return [
        claim(STATEMENTS[0], {("IWAE", "encoder"): -0.5, ("IWAE", "decoder"): 0.5}, True),
        claim(STATEMENTS[1], {("STL", "encoder"): 0.5, ("DReG", "encoder"): 0.5}, True),
        claim(STATEMENTS[2], {(name, "encoder"): each.slope for name, each in ESTIMATORS.items()}, False),
    ]


def _trained(results: pd.DataFrame, budget: str) -> Claim:
    rows = results[(results["model"] == TRAINED) & (results["part"] == "encoder")]
    by_name = {name: rows[rows["estimator"] == name].set_index("k") for name in ("IWAE", "DReG")}
    if missing := [name for name, table in by_name.items() if not set(TRAINED_KS) <= set(table.index)]:
        return Claim(STATEMENTS[3], None, f"not measured: {'; '.join(missing)}")
    first, last = TRAINED_KS[0], TRAINED_KS[-1]
    falls = by_name["DReG"].loc[last, "snr"] < by_name["DReG"].loc[first, "snr"]
    above = (by_name["DReG"]["snr"] > by_name["IWAE"]["snr"]).all()
    shown = "; ".join(
        f"{name} {' to '.join(_ratio(table.loc[k]) for k in (first, last))}"
        for name, table in by_name.items()
    )
    return Claim(STATEMENTS[3], bool(falls and above), f"k = {first} to {last}: {shown}; {budget}")


def _ratio(row: "pd.Series[float]") -> str:
    return f"{row['snr']:.3f} ± {row['snr_se']:.3f}"
