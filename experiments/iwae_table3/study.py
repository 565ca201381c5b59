"""Burda et al. 2015, Table 3: fixed MNIST."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from evidence.report.study import Budget, Findings, Study
from experiments.iwae_table1 import tables

HERE = Path(__file__).parent
NAME = "iwae_table3"


def sweeps(budget: Budget) -> Iterator[list[str]]:
    """The grid of conf/experiment/iwae_table3.yaml."""
    yield tables.arguments(NAME, budget)


def find(runs: pd.DataFrame, folder: Path) -> Findings:
    """The cells beside the published ones."""
    return tables.findings(NAME, runs, HERE / "published.csv", folder)


STUDY = Study(
    name=NAME,
    target="table3",
    title="VAE and IWAE on fixed MNIST",
    claim="Where the pixels are binarized once and for all, all models overfit more, and the IWAE is still ahead.",
    source="Burda, Grosse and Salakhutdinov 2015, Table 3, https://arxiv.org/abs/1509.00519",
    costs={"quick": "19 minutes on two cores of an AMD EPYC"},
    reaches={
        "quick": "13 of 3280 passes, one layer, one seed; L_500",
        "day": "40 of 3280 passes, one layer, 3 seeds; L_5000",
        "paper": "3280 passes, one layer and two, 3 seeds; L_5000",
    },
    sweeps=sweeps,
    find=find,
    order=6,
)
