"""The activities of a trained run's units, and its NLL with and without the inactive ones, measured into files."""

from pathlib import Path

import pandas as pd
import torch

from evidence.evaluation import ACTIVE_THRESHOLD, IMAGES_PER_BATCH, MEAN_SAMPLES, activity, posterior_means
from evidence.models import LatentVariableModel
from evidence.numerics import forked_rng
from evidence.records import files
from evidence.runs import runtime
from experiments import by_image, provenance
from experiments.active_units.removing import bounds
from experiments.trained import trained

MEASURING = __name__
NOISE_SEED = 0


def measure(folder: Path, run: "pd.Series[str]", num_samples: int, num_images: int) -> None:
    """A_u over the whole test set, and -L_S of so many images with and without the inactive units."""
    device = runtime.choose_device("auto", 0)
    parts = trained(run, device.type).parts
    images, origin = parts.dataset.test, provenance.here(device)
    same = {**provenance.source(MEASURING), "record": run["record"]}
    path = folder / f"activity-{run['run']}.csv"
    if provenance.read(path, same).empty:
        found = _activities(parts.model, images, device).cpu()
        table = pd.DataFrame({"unit": range(len(found)), "activity": found}).assign(**origin, **same)
        files.write(path, table.to_csv(index=False).encode())
    is_kept = torch.tensor(pd.read_csv(path)["activity"].gt(ACTIVE_THRESHOLD).to_numpy(), device=device)

    def rows(image: int) -> list[dict[str, object]]:
        x = images[image : image + 1].to(device, torch.get_default_dtype())
        with torch.no_grad(), forked_rng(device, NOISE_SEED, image):
            found = bounds(parts.model, x, is_kept, num_samples)
        nll = {"whole": -found.whole.item(), "removed": -found.removed.item()}
        return [{"image": image, "samples": num_samples, **nll, **origin}]

    chosen = by_image.evenly_spaced(num_images, len(images))
    by_image.complete(folder / f"removal-{run['run']}-{num_samples}.csv", chosen, rows, same)


@torch.no_grad()
def _activities(model: LatentVariableModel, images: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A_u of each unit, [D], as evaluation.evaluate has it."""
    batches = [batch.to(device, torch.get_default_dtype()) for batch in images.split(IMAGES_PER_BATCH)]
    pairs = [posterior_means(model, x, MEAN_SAMPLES) for x in batches]
    return activity(torch.cat([a for a, _ in pairs]), torch.cat([b for _, b in pairs]))
