"""The activities of a trained run's units, and its NLL with and without the inactive ones, measured into files."""

from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from evidence.evaluation import ACTIVE_THRESHOLD, MEAN_SAMPLES, activity, posterior_means, sizes
from evidence.report import measurements
from evidence.streams import forked_rng
from experiments.active_units.removing import bounds

MEASURING = __name__
NOISE_SEED = 0


def measure(folder: Path, run: "pd.Series[str]", num_samples: int, num_images: int) -> None:
    """A_u over the whole test set, and -L_S of so many images with and without the inactive units."""
    subject = measurements.subject(run, MEASURING)
    path = folder / f"activity-{run['run']}.csv"
    if measurements.read(path, subject.same).empty:
        table = pd.DataFrame({"activity": _activities(subject).cpu()}).rename_axis("unit").reset_index()
        origin = measurements.here(subject.device)
        measurements.write(path, table.assign(**origin, **subject.same))
    activities = measurements.read(path, subject.same)["activity"]
    is_kept = torch.tensor(activities.gt(ACTIVE_THRESHOLD).to_numpy(), device=subject.device)

    def rows(image: int, x: Tensor) -> list[dict[str, object]]:
        with torch.no_grad(), forked_rng(subject.device, NOISE_SEED, image):
            found = bounds(subject.model, x, is_kept, num_samples)
        return [{"samples": num_samples, "whole": -found.whole.item(), "removed": -found.removed.item()}]

    subject.complete(folder / f"removal-{run['run']}-{num_samples}.csv", num_images, rows)


@torch.no_grad()
def _activities(subject: measurements.Subject) -> Tensor:
    """A_u of each unit, [D], as evaluation.evaluate has it."""
    batches = map(subject.placed, subject.test.split(sizes(subject.device).images))
    pairs = [posterior_means(subject.model, x, MEAN_SAMPLES) for x in batches]
    return activity(torch.cat([a for a, _ in pairs]), torch.cat([b for _, b in pairs]))
