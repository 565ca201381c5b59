"""Lievin et al. 2020, Figure 4: IWAE, STL, DReG, VR-IWAE and TVO with 5, 10 and 50 samples."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from evidence.report import protocol
from evidence.report.compare import mean_and_deviation, summaries
from evidence.report.selection import among, choose
from evidence.report.study import SIDE_BY_SIDE, Budget, Findings, Picture, Study
from experiments.estimators import drawing
from experiments.estimators.cells import ALPHA, KS, NAMES, PASSES, Cells
from experiments.estimators.claims import claims

HERE = Path(__file__).parent
NAME = "estimators"
CHOICES = (["objective=iwae,stl,dreg,tvo"], ["objective=vr_iwae", f"objective.alpha={ALPHA}"])
FEW = ["eval=quick", "eval.images=2000", "seed=0"]
ALL = ["eval=paper", "seed=0,1,2"]
SOME = ["eval=paper", "eval.images=1000", "seed=0"]
BUDGETS: dict[
    Budget, tuple[int, list[str], list[str]]
] = {  # stages, how the last is scored, and how all of them are
    "quick": (3, FEW, FEW),
    "day": (3, ALL, SOME),
    "paper": (8, ALL, SOME),
}
CELL = ["objective", "k", "stages"]
SCORED = ["eval_images", "eval_samples"]
SIGNAL = ("snr_encoder", "snr_decoder", "direction_encoder", "direction_decoder")
METRICS = ("nll", "nll_se", "kl", "effective_sample_size", "khat", "khat_above", *SIGNAL)


def sweeps(budget: Budget) -> Iterator[list[str]]:
    """The grid of conf/experiment/estimators.yaml and VR-IWAE to its end; then the ends of all its stages, alike."""
    stages, last, every = BUDGETS[budget]
    lengths = ",".join(str(stage) for stage in range(1, stages + 1))
    for scored in ([f"trainer.stages={stages}", *last], [f"trainer.stages={lengths}", *every]):
        for choice in CHOICES:
            yield [*SIDE_BY_SIDE, f"experiment={NAME}", *scored, *choice]


def find(runs: pd.DataFrame, folder: Path) -> Findings:
    """A row for each number of samples, length and estimator: how each metric changes while a training lasts."""
    runs, left_out = _studied(runs)
    chosen = choose(runs, CELL, PASSES)
    results = _results(chosen.runs)
    alike = scored_alike(runs)
    curves = _results(alike)
    pictures = []
    if len(results):
        drawing.draw_nll(curves, folder / "nll.png")
        drawing.draw_differences(results, Cells.of(chosen.runs, results), folder / "differences.png")
        drawing.draw_training(curves, folder / "training.png")
        pictures = _pictures(curves)
    found = claims(Cells.of(chosen.runs, results), Cells.of(alike, curves))
    notes = [*NOTES, *protocol.notes(NAME, chosen.runs, ("objective.alpha",))]
    notes += [*protocol.unlike(chosen.runs, "fixed MNIST"), *chosen.notes, *left_out]
    return Findings(results, _table(results), found, pictures, notes)


def _studied(runs: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The runs of each estimator, k and whole number of stages; and a note on those with another alpha."""
    stages = [str(stage) for stage in range(1, BUDGETS["paper"][0] + 1)]
    wanted = {"data": ["mnist_fixed"], "model": ["one_layer"], "objective": NAMES, "k": KS, "stages": stages}
    runs = among(runs, wanted)
    if runs.empty:
        return runs, []
    alpha = pd.to_numeric(runs.get("objective.alpha", pd.Series(ALPHA, runs.index)))
    others = (runs["objective"] == "vr_iwae") & (alpha != ALPHA)
    left_out = [f"Left out: {', '.join(f'`{run}`' for run in runs[others]['run'])} (alpha is not {ALPHA})."]
    return runs[~others], left_out * bool(others.any())


def scored_alike(runs: pd.DataFrame) -> pd.DataFrame:
    """Like runs of each cell, all scored by one number of images and samples: by the one that most cells have.

    Of several such numbers it is the one with most images, then with most samples.
    """
    if runs.empty:
        return runs
    chosen = choose(runs, [*CELL, *SCORED], PASSES).runs
    cells = chosen.drop_duplicates([*CELL, *SCORED]).groupby(SCORED).size()
    best = max(cells.index, key=lambda scored: (cells[scored], *scored))
    return chosen[chosen[SCORED].eq(pd.Series(best, SCORED)).all(axis=1)]


def _results(chosen: pd.DataFrame) -> pd.DataFrame:
    """The cells by k, passes and estimator. Metrics that no run has are left out."""
    if chosen.empty:
        return pd.DataFrame()
    measured = [f"test/{name}" for name in METRICS if f"test/{name}" in chosen]
    published = pd.read_csv(HERE / "published.csv").rename(columns={"nll": "published_nll"})
    results = summaries(chosen, CELL, measured).merge(published, "left", ["objective", "k"])
    results["passes"] = results["passes"].astype(int)
    place = results["objective"].map([*NAMES].index)
    return (
        results.assign(place=place)
        .sort_values(["k", "passes", "place"], ignore_index=True)
        .drop(columns="place")
    )


def _table(results: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "k": row["k"],
            "budget": row["budget"],
            "estimator": NAMES[row["objective"]],
            "NLL, nats (± sd over seeds)": mean_and_deviation(row["nll"], row["nll_sd"]),
            "se over images": f"{row['nll_se']:.2f}",
            "published, training images": f"{row['published_nll']:.2f}",
            **{
                heading: mean_and_deviation(row[name], row[f"{name}_sd"], digits)
                for name, (heading, digits) in SHOWN.items()
                if name in row
            },
            "seeds": row["seeds"],
            "S, images": f"{row['eval_samples']}, {row['eval_images']:,}",
            "runs": row["runs"],
        }
        for _, row in results.iterrows()
    )


SHOWN = {  # heading, and digits
    "kl": ("KL", 2),
    "effective_sample_size": ("ESS", 2),
    "khat_above": ("share with a large k-hat", 3),
    "snr_encoder": ("SNR, encoder", 3),
    "snr_decoder": ("SNR, decoder", 3),
}


def _pictures(curves: pd.DataFrame) -> list[Picture]:
    scored = curves.iloc[0]
    alike = f"All points are scored alike: L_{scored['eval_samples']}, {scored['eval_images']:,} images."
    return [
        Picture(
            "nll.png",
            "Test NLL against decoder passes an image, k times the passes over the training set, a panel for each"
            " estimator. Points one above the other cost the same. Bars are one standard deviation over seeds either"
            f" way; where there is one seed there are none. {alike}",
        ),
        Picture(
            "differences.png",
            "Test NLL less that of IWAE after the same passes; below zero is better. Points are means of differences"
            " paired by seed, bars one standard deviation over seeds either way. Hollow: published, on the training"
            f" images after {PASSES} passes.",
        ),
        Picture(
            "training.png",
            "KL from the prior, effective sample size of the S weights of an image, and, where it was measured, the"
            " signal-to-noise ratio of the encoder's gradient, at the end of each stage."
            f" {alike}",
        ),
    ]


NOTES = [
    "The published figures are read off the plot, to about 0.1 nats. They are L_5000 on the training images after 4"
    f" million steps, about {PASSES} passes. Ours are of test images, so the order is compared and no value.",
    "The schedule is not the paper's. Training is in stages of 1, 3, 9 ... passes, and the learning rate falls by"
    " 10^(-1/7) a stage from 3e-4, as in Burda et al. 2015. A longer run goes on from the end of a shorter one.",
    "VR-IWAE is doubly reparameterised. In every estimator all samples go backward.",
    "An image's k-hat is large above min(1 - 1/log10 S, 0.7): its estimate of log p(x) is not to be believed.",
    "At equal decoder passes the NLL between two ends is interpolated, linear in the log of passes. No such"
    " comparison is published.",
]
STUDY = Study(
    name=NAME,
    target="estimators",
    title="Estimators of the importance-weighted bound's gradient",
    claim="STL and DReG end below IWAE, every estimator gains from more samples, and TVO gains the most.",
    source="Lievin et al. 2020, Figure 4, https://arxiv.org/abs/2008.01998",
    costs={"quick": "70 minutes on two cores of an AMD EPYC, for some of it beside other work"},
    reaches={
        "quick": f"13 of {PASSES} passes, one seed; L_500 on 2,000 images",
        "day": f"13 of {PASSES} passes, 3 seeds; L_5000",
        "paper": "3280 passes, 3 seeds; L_5000",
    },
    sweeps=sweeps,
    find=find,
    order=12,
)
