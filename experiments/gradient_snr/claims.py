"""What the ratios say for and against the papers."""

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


def _unmeasured(statements: tuple[str, ...]) -> list[Claim]:
    return [Claim(statement, None, "not measured") for statement in statements]


def _gaussian(results: pd.DataFrame) -> list[Claim]:
    rows = results[results["model"] == GAUSSIAN]
    ends = rows[rows["k"] == KS[-1]].set_index(["estimator", "part"])
    last = ends["slope"]

    def near(name: str, part: str, slope: float) -> bool:
        return bool(abs(last[name, part] - slope) < NEAR)

    def figures(*pairs: tuple[str, str]) -> str:
        shown = "; ".join(f"{name}, {part} {slope(ends.loc[(name, part)])}" for name, part in pairs)
        return f"slope from k = {KS[-1 - SPAN]} to {KS[-1]}: {shown}"

    iwae = (("IWAE", "encoder"), ("IWAE", "decoder"))
    path = (("STL", "encoder"), ("DReG", "encoder"))
    off = [name for name, each in ESTIMATORS.items() if not near(name, "encoder", each.slope)]
    return [
        Claim(STATEMENTS[0], near(*iwae[0], -0.5) and near(*iwae[1], 0.5), figures(*iwae)),
        Claim(STATEMENTS[1], all(near(*each, 0.5) for each in path), figures(*path)),
        Claim(STATEMENTS[2], not off, f"more than {NEAR} away: {', '.join(off) or 'none'}"),
    ]


def _trained(results: pd.DataFrame, budget: str) -> Claim:
    rows = results[(results["model"] == TRAINED) & (results["part"] == "encoder")]
    by_name = {name: rows[rows["estimator"] == name].set_index("k") for name in ("IWAE", "DReG")}
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
