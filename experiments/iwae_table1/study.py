"""Table 1 of Burda et al. 2015."""

import os
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from evidence.report.frame import ROOT
from evidence.report.study import Budget, Findings, Study
from experiments import tables

HERE = Path(__file__).parent
OMNIGLOT = "omniglot/chardata.mat"


def sweeps(budget: Budget) -> Iterator[list[str]]:
    """The grid of conf/experiment/iwae_table1.yaml; beyond `quick` also on OMNIGLOT where its file is at hand."""
    grid = [*tables.SIDE_BY_SIDE, "experiment=iwae_table1", *tables.BUDGETS[budget]]
    yield grid
    if budget != "quick" and Path(ROOT, os.environ.get("EVIDENCE_DATA", "data"), OMNIGLOT).exists():
        yield [*grid, "data=omniglot"]


def find(runs: pd.DataFrame, folder: Path) -> Findings:
    """The cells beside the published ones."""
    return tables.findings(runs, HERE / "published.csv", folder)


STUDY = Study(
    name="iwae_table1",
    target="table1",
    title="VAE and IWAE on MNIST",
    claim="With more samples the IWAE's test NLL falls and its number of active units rises; the VAE's hardly move.",
    source="Burda, Grosse and Salakhutdinov 2015, Table 1, https://arxiv.org/abs/1509.00519",
    costs={},
    sweeps=sweeps,
    find=find,
)
