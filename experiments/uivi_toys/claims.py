"""What the study claims, judged by its fits."""

import math
from collections.abc import Mapping

import pandas as pd

from evidence.report.compare import seeds
from evidence.report.study import Claim
from experiments.uivi_toys.drawing import title
from experiments.uivi_toys.methods import TARGET_ACCEPTANCE
from experiments.uivi_toys.summary import late, over_seeds

SETTLED = 0.03  # of the acceptance's mean over the last quarter, from its target
FITS = "UIVI by HMC fits all three targets: KL(q ‖ p) ends below that of the best single Gaussian."
SETTLES = f"The acceptance of its chains settles at its target of {TARGET_ACCEPTANCE:g}."
CHEAPER = {
    sampler: f"UIVI by {words} reaches the KL(q ‖ p) of HMC in less time a step: on each target it is below the best"
    " Gaussian's by 3 standard errors, and above HMC's by less than 2 of the difference."
    for sampler, words in {
        "importance": "samples of q(ε)",
        "learned": "samples of a learned proposal",
    }.items()
}
Gaussian = Mapping[str, float]  # the best one's KL for each target


def judged(rows: pd.DataFrame, ends: pd.DataFrame, gaussian: Gaussian) -> list[Claim]:
    """The claims, of all reports and of `summary.by_fit`'s rows."""
    by_hmc = ends[ends["method"] == "hmc"]
    if set(by_hmc["target"]) != set(gaussian):
        return [Claim(statement, None, "not measured") for statement in (FITS, SETTLES, *CHEAPER.values())]
    claims = [_fits(by_hmc, gaussian), _settles(late(rows[rows["method"] == "hmc"]))]
    for sampler, statement in CHEAPER.items():
        by_sampler = ends[ends["method"] == sampler]
        if set(by_sampler["target"]) == set(gaussian):
            claims.append(_cheaper(statement, by_sampler, by_hmc, gaussian))
        else:
            claims.append(Claim(statement, None, "not measured"))
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


def _cheaper(statement: str, ends: pd.DataFrame, by_hmc: pd.DataFrame, gaussian: Gaussian) -> Claim:
    reached, found = [], []
    for name, group in ends.groupby("target", sort=False):
        reference = by_hmc[by_hmc["target"] == name]
        kl, hmc = over_seeds(group, "kl_late"), over_seeds(reference, "kl_late")
        share = group["ms_per_step"].mean() / reference["ms_per_step"].mean()
        is_fitted = kl.mean + 3 * kl.se < gaussian[str(name)]
        reached.append(is_fitted and kl.mean - hmc.mean < 2 * math.hypot(kl.se, hmc.se) and share < 1)
        found.append(f"{title(str(name))} {kl} (HMC: {hmc}), {share:.0%} of HMC's time")
    both = pd.concat([ends, by_hmc])
    spread = "the reports of one seed, not over seeds" if both["seed"].nunique() == 1 else "seeds"
    figures = f"mean KL over the last quarter, nats (± its se over {spread}): {'; '.join(found)}"
    return Claim(statement, all(reached), f"{figures}; {_trained(both)}")


def _trained(ends: pd.DataFrame) -> str:
    lengths = " and ".join(f"{steps:,} steps" for steps in ends["steps"].unique())
    return f"{lengths}, {seeds(*ends.groupby(['target', 'method'])['seed'].nunique())}"
