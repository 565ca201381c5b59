"""What the study claims, judged by its fits."""

import math
from collections.abc import Mapping

import pandas as pd

from evidence.report.compare import seeds
from evidence.report.study import Claim
from experiments.uivi_toys.drawing import title
from experiments.uivi_toys.methods import METHODS, TARGET_ACCEPTANCE
from experiments.uivi_toys.summary import Estimate, late, over_seeds

SETTLED = 0.03  # of the acceptance's mean over the last quarter, from its target
FITS = "UIVI by HMC fits all three targets: KL(q ‖ p) ends below that of the best single Gaussian."
SETTLES = f"The acceptance of its chains settles at its target of {TARGET_ACCEPTANCE:g}."
CHEAPER = (
    "Importance samples, from q(ε) and from a learned proposal, reach HMC's KL(q ‖ p) in less time a step: on no"
    " target is theirs higher by more than 2 standard errors of the difference."
)
Gaussian = Mapping[str, float]  # the best one's KL for each target


def judged(rows: pd.DataFrame, ends: pd.DataFrame, gaussian: Gaussian) -> list[Claim]:
    """The three claims, of all reports and of `summary.by_fit`'s rows."""
    by_hmc = ends[ends["method"] == "hmc"]
    claims = [Claim(statement, None, "not measured") for statement in (FITS, SETTLES, CHEAPER)]
    if set(by_hmc["target"]) == set(gaussian):
        claims[0] = _fits(by_hmc, gaussian)
        claims[1] = _settles(late(rows[rows["method"] == "hmc"]))
        compared = ends[ends["method"] != "sivi"]
        if len(compared.groupby(["target", "method"])) == len(gaussian) * (len(METHODS) - 1):
            claims[2] = _cheaper(compared)
    return claims


def _fits(ends: pd.DataFrame, gaussian: Gaussian) -> Claim:
    better, kls = [], []
    for name, group in ends.groupby("target", sort=False):
        worst = group.loc[group["kl"].idxmax()]
        better.append(worst["kl"] + 3 * worst["kl_se"] < gaussian[str(name)])
        kls.append(
            f"{title(str(name))} {worst['kl']:.3f} ± {worst['kl_se']:.3f} of {gaussian[str(name)]:.3f}"
        )
    return Claim(FITS, all(better), f"the worst seed, nats (± its se): {'; '.join(kls)}; {_trained(ends)}")


def _settles(late_rows: pd.DataFrame) -> Claim:
    near, means = [], []
    for name, group in late_rows.groupby("target", sort=False):
        by_seed = group.groupby("seed")["acceptance"].mean()
        near.append((by_seed - TARGET_ACCEPTANCE).abs().max() < SETTLED)
        means.append(f"{title(str(name))} {by_seed.min():.3f} to {by_seed.max():.3f}")
    number = seeds(*late_rows.groupby("target")["seed"].nunique())
    evidence = f"mean over the last quarter, lowest to highest of {number}: {'; '.join(means)}"
    return Claim(SETTLES, all(near), evidence)


def _cheaper(ends: pd.DataFrame) -> Claim:
    reached, found = [], []
    for name, group in ends.groupby("target", sort=False):
        by_method = dict(list(group.groupby("method", sort=False)))
        kls = {method: over_seeds(fits, "kl_late") for method, fits in by_method.items()}
        times = {method: fits["ms_per_step"].mean() for method, fits in by_method.items()}
        for method in (method for method in kls if method != "hmc"):
            difference = Estimate(
                kls[method].mean - kls["hmc"].mean, math.hypot(kls[method].se, kls["hmc"].se)
            )
            share = times[method] / times["hmc"]
            reached.append(difference.mean <= 2 * difference.se and share < 1)
            found.append(
                f"{title(str(name))}, {method} {difference.mean:+.3f} ± {difference.se:.3f} ({share:.0%})"
            )
    is_one = ends["seed"].nunique() == 1
    spread = "the reports of one seed, so not of other seeds" if is_one else "seeds"
    return Claim(
        CHEAPER,
        all(reached),
        f"difference of the mean KL over the last quarter, nats (± se over {spread}; its time a step):"
        f" {'; '.join(found)}; {_trained(ends)}",
    )


def _trained(ends: pd.DataFrame) -> str:
    lengths = " and ".join(f"{steps:,} steps" for steps in ends["steps"].unique())
    return f"{lengths}, {seeds(*ends.groupby(['target', 'method'])['seed'].nunique())}"
