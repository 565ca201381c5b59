"""Burda et al. 2015, Table 1: VAE and IWAE on MNIST."""

import os
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from evidence import project
from evidence.report.compare import seeds
from evidence.report.study import SIDE_BY_SIDE, Budget, Findings, Picture, Study
from experiments.iwae_table1 import gains, tables
from experiments.iwae_table1.paper import BUDGETS, ENDS, FEW_IMAGES, FURTHER

HERE = Path(__file__).parent
NAME = "iwae_table1"
OMNIGLOT = "omniglot/chardata.mat"


def sweeps(budget: Budget) -> Iterator[list[str]]:
    """The grid of conf/experiment/iwae_table1.yaml; beyond `quick` also on OMNIGLOT where its file is at hand.

    `day` goes on from the one-layer cells of seed 0 to 121 passes, and trains two layers for 40. The ends of earlier
    stages, which these runs have gone through, are scored on a thousand images.
    """
    grid = tables.arguments(NAME, budget)
    yield grid
    if budget == "day":
        yield [*SIDE_BY_SIDE, f"experiment={NAME}", "model=one_layer", *FURTHER]
        yield [*SIDE_BY_SIDE, f"experiment={NAME}", "model=two_layer", *BUDGETS[budget]]
    yield [*SIDE_BY_SIDE, f"experiment={NAME}", *ENDS[budget], *FEW_IMAGES]
    if budget != "quick" and Path(project.root(), os.environ.get("EVIDENCE_DATA", "data"), OMNIGLOT).exists():
        yield [*grid, "data=omniglot"]


def find(runs: pd.DataFrame, folder: Path) -> Findings:
    """The cells beside the published ones, and how the gain from k changes while a training lasts."""
    found = tables.findings(NAME, runs, HERE / "published.csv", folder)
    gained = gains.gains(runs)
    found = found._replace(notes=[*dict.fromkeys([*found.notes, *gained.notes])])
    if gained.table.empty:
        return found
    gains.draw(gained.table, pd.read_csv(HERE / "published.csv"), folder / "gains.png")
    caption = (
        "Above: what k = 5 and 50 gain over k = 1 in test NLL, after each number of passes. A VAE with k samples"
        " averages k gradients, so it learns faster at first, and its gain shrinks with training. Below: active units."
        " Hollow markers were published. Points are means of differences paired by seed"
        f" ({seeds(*gained.table['seeds'])}), bars one standard deviation over seeds either way. Both runs of a pair"
        f" are scored alike: {_scored(gained.table)}."
    )
    return found._replace(pictures=[*found.pictures, Picture("gains.png", caption)])


def _scored(gained: pd.DataFrame) -> str:
    """How each length is scored, in words: "L_5000, 10,000 images after 40 passes"."""
    passes = gained.groupby(["eval_samples", "eval_images"])["passes"].unique()
    return "; ".join(
        f"L_{samples}, {images:,} images after {', '.join(map(str, sorted(each)))} passes"
        for (samples, images), each in passes.items()
    )


STUDY = Study(
    name=NAME,
    target="table1",
    title="VAE and IWAE on MNIST",
    claim="With more samples the IWAE's test NLL falls and its number of active units rises; the VAE's hardly move.",
    source="Burda, Grosse and Salakhutdinov 2015, Table 1, https://arxiv.org/abs/1509.00519",
    costs={"quick": "19 minutes on two cores of an AMD EPYC"},
    reaches={
        "quick": "13 of 3280 passes, one layer, one seed; L_500",
        "day": "40 of 3280 passes, one layer and two, 3 seeds, and 121 passes of one layer, one seed; L_5000",
        "paper": "3280 passes, one layer and two, 3 seeds; L_5000",
    },
    sweeps=sweeps,
    find=find,
    order=1,
)
