"""Says after which steps a run is validated, besides the ends of its stages.

It is validated at a report, since its parameters are at hand there: the first one at or after each multiple of
`trainer.validate_every` passes. So neither the parameters nor the numbers of the last step depend on it, and a resumed
run is validated at the steps of an uninterrupted one.
"""

import math

from evidence import training
from evidence.config.settings import Settings
from evidence.errors import UserError
from evidence.evaluation import VALIDATION

POINTS = 20  # at most, of `auto`, besides the ends of stages
SHARE = 0.1  # at most, of `auto`: the validation's share of the training's work
BACKWARD = (
    3  # a sample in training costs so many samples in validation: one pass forward and twice that backward
)


def interval(settings: Settings, train: int, valid: int, last_step: int) -> int | None:
    """The steps between two validations, with so many images. None where only the ends of stages are validated."""
    trainer = settings.trainer
    per_pass = train // trainer.batch_size
    every = trainer.validate_every
    if every == "auto":
        scored = valid * VALIDATION.with_density.num_samples
        trained = per_pass * trainer.batch_size * settings.k * BACKWARD
        every = max(1, math.ceil(last_step / per_pass / POINTS), math.ceil(scored / (SHARE * trained)))
    return None if every is None else every * per_pass


def is_due(step: int, last_report: int, every: int | None) -> bool:
    """Whether a multiple of `every` steps lies after the last report, up to this step."""
    return every is not None and step // every > last_report // every


def finite(metrics: dict[str, float], step: int) -> dict[str, float]:
    """The metrics as floats. Raises: UserError naming the first that is not finite."""
    for name, value in metrics.items():
        if not math.isfinite(value):
            raise UserError(training.diverged(f"{name} is {value} at step {step}"))
    return {name: float(value) for name, value in metrics.items()}
