"""Active units: the histogram of log A_u, their number against k, and the NLL without the inactive ones."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pandas as pd
import torch

from evidence import execution, files
from evidence.evaluation import ACTIVE_THRESHOLD, IMAGES_PER_BATCH, MEAN_SAMPLES, activity, posterior_means
from evidence.models import LatentVariableModel
from evidence.numerics import forked_rng
from evidence.report import judging
from evidence.report.study import Budget, Findings, Picture, Study
from experiments import by_image, cells
from experiments.active_units import drawing, reading
from experiments.active_units.removing import bounds
from experiments.provenance import here
from experiments.trained import trained

SAMPLES: dict[Budget, int] = {"quick": 500, "day": 5000, "paper": 5000}  # S
IMAGES: dict[Budget, int] = {"quick": 500, "day": 1000, "paper": 10_000}  # evenly spaced test images
NOISE_SEED = 0


def sweeps(budget: Budget) -> Iterator[list[str]]:
    """One sweep: Table 1's cells with one layer."""
    yield cells.arguments(budget)


def measure(folder: Path, budget: Budget) -> None:
    """counts.csv from MLflow; for each cell's longest run with seed 0 its activities, and the NLL of each image."""
    runs = cells.one_layer()
    if runs.empty:
        return
    groups = judging.longest(runs, cells.CELL).groupby(cells.CELL)
    counts = [
        dict(zip(cells.CELL, cell, strict=True)) | judging.summary(group, ["test/active_units"])
        for cell, group in groups
    ]
    files.write(folder / "counts.csv", pd.DataFrame(counts).to_csv(index=False).encode())
    for _, run in cells.first_seeds(runs).iterrows():
        about = {name: run[name] for name in ("run", "objective", "k", "length")} | {
            "training": run["budget"]
        }
        measure_run(folder, run["folder"], about, SAMPLES[budget], IMAGES[budget])


def measure_run(
    folder: Path, home: str, about: Mapping[str, object], num_samples: int, num_images: int
) -> None:
    """A_u over the whole test set, and -L_S of so many images with and without the inactive units."""
    device = execution.choose_device("auto", 0)
    parts = trained(home, device.type).parts
    images, origin = parts.dataset.test, here(device)
    path = folder / f"activity-{about['run']}.csv"
    if not path.exists():
        found = _activities(parts.model, images, device).cpu()
        table = pd.DataFrame({"unit": range(len(found)), "activity": found}).assign(**about, **origin)
        files.write(path, table.to_csv(index=False).encode())
    is_kept = torch.tensor(pd.read_csv(path)["activity"].gt(ACTIVE_THRESHOLD).to_numpy(), device=device)

    def rows(image: int) -> list[dict[str, object]]:
        x = images[image : image + 1].to(device, torch.get_default_dtype())
        with torch.no_grad(), forked_rng(device, NOISE_SEED, image):
            found = bounds(parts.model, x, is_kept, num_samples)
        nll = {"whole": -found.whole.item(), "removed": -found.removed.item()}
        return [{"image": image, "samples": num_samples, **nll, **about, **origin}]

    chosen = by_image.evenly_spaced(num_images, len(images))
    by_image.complete(folder / f"removal-{about['run']}-{num_samples}.csv", chosen, rows)


@torch.no_grad()
def _activities(model: LatentVariableModel, images: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A_u of each unit, [D], as evaluation.evaluate has it."""
    batches = [batch.to(device, torch.get_default_dtype()) for batch in images.split(IMAGES_PER_BATCH)]
    pairs = [posterior_means(model, x, MEAN_SAMPLES) for x in batches]
    return activity(torch.cat([a for a, _ in pairs]), torch.cat([b for _, b in pairs]))


def find(runs: pd.DataFrame, folder: Path) -> Findings:
    """From the CSV files: MLflow's runs are those of Table 1."""
    results, activities = reading.results(folder), reading.activities(folder)
    if results.empty:
        return Findings(results, results, reading.claims(results), [], [])
    drawing.histograms(results, activities, folder / "histograms.png")
    drawing.units(results, folder / "units.png")
    drawing.changes(results, folder / "changes.png")
    pictures = [
        Picture(
            "histograms.png",
            "The activities of the latent units of each cell's run with seed 0.",
        ),
        Picture(
            "units.png",
            "Active units against k; bars are one standard deviation, where there are several seeds.",
        ),
        Picture(
            "changes.png",
            "Change of the NLL where the inactive units are removed; bars are two standard errors of the paired"
            " difference, the shaded band is the paper's 0.06 nats.",
        ),
    ]
    notes = [
        "A removed unit's q is replaced by the prior, so that it adds nothing to log w, and the decoder sees the"
        " prior's mean 0 in its place; the paper does not say how it removes units. Both NLLs are of the same images"
        " and noise.",
        "One stochastic layer only: below another layer a unit has no prior of its own by which it could be replaced.",
    ]
    if (results["length"] < judging.PASSES).any():
        notes.append(
            "The lower mode comes down from above as training goes on, and at first lies across the threshold, so that"
            " the count of active units depends on where it stands; the upper mode alone, A_u above ten times the"
            " threshold, is settled much earlier."
        )
    return Findings(results, reading.table(results), reading.claims(results), pictures, notes)


STUDY = Study(
    name="active_units",
    target="active-units",
    title="Active units",
    claim="A unit is used or it is not: log A_u has two modes, the IWAE uses more units with larger k, and those that"
    " are not active can be removed.",
    source="Burda, Grosse and Salakhutdinov 2015, Section 5 and Table 1, https://arxiv.org/abs/1509.00519",
    costs={"quick": "six runs of Table 1, then 1 minute on one core of an AMD EPYC beside other work"},
    sweeps=sweeps,
    find=find,
    measure=measure,
)
