"""Lievin et al. 2020, Figure 4: IWAE, STL, DReG, VR-IWAE and TVO with 5, 10 and 50 samples."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from evidence.report import protocol
from evidence.report.compare import mean_and_deviation, summaries
from evidence.report.selection import Chosen, among, choose
from evidence.report.study import SIDE_BY_SIDE, Budget, Findings, Picture, Study
from experiments.estimators import drawing
from experiments.estimators.cells import ALPHA, KS, NAMES, PASSES, Cells
from experiments.estimators.claims import claims

HERE = Path(__file__).parent
NAME = "estimators"
CHOICES = (["objective=iwae,stl,dreg,tvo"], ["objective=vr_iwae", f"objective.alpha={ALPHA}"])
BUDGETS: dict[Budget, tuple[int, list[str]]] = {  # stages to train, one after another
    "quick": (2, ["eval=quick", "eval.images=2000", "seed=0"]),
    "day": (4, ["eval=paper", "seed=0,1,2"]),
    "paper": (8, ["eval=paper", "seed=0,1,2"]),
}
CELL = ["objective", "k", "stages"]
SIGNAL = ("snr_encoder", "snr_decoder", "direction_encoder", "direction_decoder")
METRICS = ("nll", "nll_se", "kl", "effective_sample_size", "khat", "khat_above", *SIGNAL)


def sweeps(budget: Budget) -> Iterator[list[str]]:
    """The grid of conf/experiment/estimators.yaml and VR-IWAE, to the end of each stage in turn."""
    stages, others = BUDGETS[budget]
    for stage in range(1, stages + 1):
        for choice in CHOICES:
            yield [*SIDE_BY_SIDE, f"experiment={NAME}", f"trainer.stages={stage}", *others, *choice]


def find(runs: pd.DataFrame, folder: Path) -> Findings:
    """A row for each number of samples, length and estimator: how each metric changes while a training lasts."""
    chosen = _chosen(runs)
    results = _results(chosen.runs)
    cells = Cells.of(chosen.runs, results)
    pictures = []
    if len(results):
        drawing.draw_nll(results, folder / "nll.png")
        drawing.draw_differences(results, folder / "differences.png")
        drawing.draw_training(results, folder / "training.png")
        pictures = PICTURES
    notes = [*NOTES, *protocol.notes(NAME, chosen.runs, ("objective.alpha",))]
    notes += [*protocol.unlike(chosen.runs, "fixed MNIST"), *chosen.notes]
    return Findings(results, _table(results), claims(cells), pictures, notes)


def _chosen(runs: pd.DataFrame) -> Chosen:
    """The runs of each estimator, k and whole number of stages."""
    stages = [str(stage) for stage in range(1, BUDGETS["paper"][0] + 1)]
    wanted = {"data": ["mnist_fixed"], "model": ["one_layer"], "objective": NAMES, "k": KS, "stages": stages}
    runs = among(runs, wanted)
    if runs.empty:
        return Chosen(runs, [])
    alpha = pd.to_numeric(runs.get("objective.alpha", pd.Series(ALPHA, runs.index)))
    others = (runs["objective"] == "vr_iwae") & (alpha != ALPHA)
    chosen = choose(runs[~others], CELL, PASSES)
    left_out = [f"Left out: {', '.join(f'`{run}`' for run in runs[others]['run'])} (alpha is not {ALPHA})."]
    return Chosen(chosen.runs, [*chosen.notes, *left_out * bool(others.any())])


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
PICTURES = [
    Picture(
        "nll.png",
        "Test NLL against decoder passes an image, k times the passes over the training set, a panel for each"
        " estimator. Points one above the other cost the same. Bars are one standard deviation over seeds either"
        " way; where there is one seed there are none.",
    ),
    Picture(
        "differences.png",
        "Test NLL less that of IWAE after the same passes; below zero is better. Hollow: published, on the training"
        f" images after {PASSES} passes.",
    ),
    Picture(
        "training.png",
        "KL from the prior, effective sample size of the S weights of an image, and, where it was measured, the"
        " signal-to-noise ratio of the encoder's gradient, at the end of each stage.",
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
    costs={"quick": "1 h 40 min on one core of an AMD EPYC, for some of it beside other work"},
    reaches={
        "quick": f"1 and 4 of {PASSES} passes, one seed; L_500 on 2,000 images",
        "day": f"1 to 40 of {PASSES} passes, 3 seeds; L_5000",
        "paper": "1 to 3280 passes, 3 seeds; L_5000",
    },
    sweeps=sweeps,
    find=find,
    order=11,
)
