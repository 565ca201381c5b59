"""How many latent units are used, and what becomes of the NLL without the others."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from evidence.report import measurements, protocol
from evidence.report.frame import finished
from evidence.report.study import Budget, Findings, Picture, Study
from experiments.active_units import drawing, measuring, reading
from experiments.iwae_table1 import cells
from experiments.iwae_table1.paper import PASSES

SAMPLES: dict[Budget, int] = {"quick": 500, "day": 5000, "paper": 5000}  # S
IMAGES: dict[Budget, int] = {"quick": 500, "day": 1000, "paper": 10_000}  # evenly spaced test images


def sweeps(budget: Budget) -> Iterator[list[str]]:
    """One sweep: Table 1's cells with one layer."""
    yield cells.arguments(budget)


def measure(folder: Path, budget: Budget) -> None:
    """Of the run with the lowest seed of each cell its activities, and the NLL of each image."""
    runs = cells.first_seeds(cells.one_layer(finished(cells.EXPERIMENT)).runs)
    measurements.each(runs, lambda run: measuring.measure(folder, run, SAMPLES[budget], IMAGES[budget]))


def find(runs: pd.DataFrame, folder: Path) -> Findings:
    """Of Table 1's runs, and from the CSV files of those that were measured."""
    chosen = cells.one_layer(runs)
    activities = reading.activities(folder, chosen.runs)
    results = reading.results(folder, chosen.runs)
    if results.empty:
        return Findings(results, results, reading.claims(results, chosen.runs), [], chosen.notes)
    drawing.histograms(results, activities, folder / "histograms.png")
    drawing.units(results, folder / "units.png")
    drawing.changes(results, folder / "changes.png")
    pictures = [
        Picture(
            "histograms.png",
            "The activities of the latent units of each cell's run with the lowest seed, dark where they are above the"
            " threshold (the dashed line). The lowest band holds all activities below it.",
        ),
        Picture(
            "units.png",
            "Active units against k: means over seeds, bars one standard deviation over seeds either way; where there"
            " is one seed there are none. Hollow markers were published.",
        ),
        Picture(
            "changes.png",
            "Change of the NLL where the inactive units are removed, one seed of each cell. Bars are two standard"
            " errors, over images, of the paired difference; the shaded band is the paper's 0.06 nats either way.",
        ),
    ]
    notes = [
        "A removed unit's q is replaced by the prior, so that it adds nothing to log w, and the decoder sees the"
        " prior's mean 0 in its place. The authors' code deletes the unit, which is the same with one stochastic layer."
        " Both NLLs are of the same images and noise.",
        "One stochastic layer only.",
    ]
    if (results["passes"] != PASSES).any():
        notes.append(
            "The lower mode comes down from above as training goes on, and at first lies across the threshold, so that"
            " the count of active units depends on where it stands; the upper mode alone, A_u above ten times the"
            " threshold, is settled much earlier."
        )
    notes += protocol.notes(cells.EXPERIMENT, chosen.runs) + protocol.unlike(chosen.runs, "MNIST, one layer")
    notes += [*measurements.notes(measuring.MEASURING, list(activities.values())), *chosen.notes]
    return Findings(results, reading.table(results), reading.claims(results, chosen.runs), pictures, notes)


STUDY = Study(
    name="active_units",
    target="active-units",
    title="Active units",
    claim="A unit is used or it is not: log A_u has two modes, the IWAE uses more units with larger k, and those that"
    " are not active can be removed.",
    source="Burda, Grosse and Salakhutdinov 2015, Section 5 and Table 1, https://arxiv.org/abs/1509.00519",
    reaches={
        "quick": "Table 1's one-layer cells, 13 passes, one seed; S = 500, 500 images",
        "day": "Table 1's one-layer cells, 40 passes, 3 seeds; S = 5000, 1,000 images",
        "paper": "Table 1's one-layer cells, 3280 passes, 3 seeds; S = 5000, all images",
    },
    costs={"quick": "six runs of Table 1, then 1 minute on one core of an AMD EPYC beside other work"},
    sweeps=sweeps,
    find=find,
    measure=measure,
    experiment=cells.EXPERIMENT,
    order=2,
)
