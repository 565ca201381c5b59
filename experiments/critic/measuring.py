"""The encoder's gradients on a trained run, measured image by image into a file."""

from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from evidence.evaluation import score
from evidence.report import measurements
from evidence.streams import forked_rng
from experiments.critic.gradients import FORMS, Baselines, encoder_moments

MEASURING = __name__
DRAWS = 500  # of the gradient, for each image, form and k
KS = (1, 5, 50)
BASELINE_SAMPLES = 5000
NOISE_SEED = 0


def measure_gradients(folder: Path, run: "pd.Series[str]", images: int) -> None:
    """gradients-<run>.csv for so many test images; each is written when it is done."""
    subject = measurements.subject(run, MEASURING)
    model, device = subject.model, subject.device
    about = {"run": run["run"], "budget": f"{run['budget']}; seed {run['seed']}"}

    def rows(image: int, x: Tensor) -> list[dict[str, object]]:
        with forked_rng(device, NOISE_SEED, image), torch.no_grad():
            weights = score(model, x, BASELINE_SAMPLES, BASELINE_SAMPLES).weights
        baselines = Baselines(weights.log_evidence.to(x.dtype), weights.elbo.to(x.dtype))
        found: list[dict[str, object]] = []
        for number, (form, make) in enumerate(FORMS.items(), 1):
            for k in KS:
                objective = make(k, baselines).to(device)
                with forked_rng(device, NOISE_SEED, image, number, k):
                    moments = encoder_moments(objective, model, x, DRAWS)
                found.append({"form": form, "k": k, **moments._asdict(), **about})
        return found

    subject.complete(folder / f"gradients-{run['run']}.csv", images, rows, per_write=1)
