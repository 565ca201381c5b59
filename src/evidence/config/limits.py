"""Estimates from the settings how much memory and disk a run needs. An absurd size is an error at once.

The estimates are low and the limits high, so that only a typing mistake reaches them.
"""

import math
from itertools import pairwise
from typing import TYPE_CHECKING

from evidence.config.schema.models import Posterior
from evidence.errors import UserError

if TYPE_CHECKING:
    from evidence.config.settings import Settings

PARAMETERS = 10**9  # of an encoder: 16 GB with gradient and Adam's moments; a decoder has as many
NUMBERS = 10**10  # at a time: 40 GB, and a graph has them more than once
IMAGES_SCORED = 100  # at a time, on a CPU: evaluation.ON_CPU.images, whose module imports torch
NUMBERS_KEPT = 10**11  # in log_weights.npz: 400 GB


def check(settings: "Settings") -> None:
    """Raise UserError, naming the keys, where parameters, a step or the evaluation cannot fit into memory."""
    model, pixels, rows = settings.model, settings.data.pixels, settings.eval.rows
    layers = [pixels, *model.layers()]
    units = f"{sum(layers):,} units in all layers"
    _refuse_above(PARAMETERS, _num_weights(layers), "parameters", "model.latent and model.hidden")
    for key, sizes in settings.objective.networks().items():
        _refuse_above(PARAMETERS, _num_weights([pixels, *sizes]), "parameters", f"objective.{key}")
    step, keys = _step(settings, sum(layers))
    _refuse_above(NUMBERS, step, "numbers in a step", f"{keys} and {units}")
    if rows is not None:
        _refuse_above(NUMBERS, rows * sum(layers), "numbers at a time", f"eval.rows={rows} and {units}")
    if model.posterior == Posterior.SEMI_IMPLICIT:
        noises, latent = settings.eval.semi_implicit.noises, sum(model.stochastic_layers())
        keys = f"eval.semi_implicit.noises={noises} and model.latent={latent}"
        _refuse_above(NUMBERS, IMAGES_SCORED * noises * latent, "numbers at a time", keys)
    _check_kept(settings)


def bytes_of(settings: "Settings") -> int:
    """About as many as a run needs to train: parameters, gradient, moments, and the graph of a step."""
    layers = [settings.data.pixels, *settings.model.layers()]
    networks = [layers, *([settings.data.pixels, *sizes] for sizes in settings.objective.networks().values())]
    parameters = 2 * sum(map(_num_weights, networks))  # encoder and decoder
    return 4 * (4 * parameters + 4 * _step(settings, sum(layers))[0])


def _check_kept(settings: "Settings") -> None:
    """Check the size of the log-weights' file. With eval.images=null only the data set knows it."""
    scoring = settings.eval
    if scoring.keep_log_weights and scoring.images is not None:
        arrays, key, samples = 1, "eval.samples", scoring.samples
        if settings.model.posterior == Posterior.SEMI_IMPLICIT:
            arrays, key, samples = 3, "eval.semi_implicit.samples", scoring.semi_implicit.samples
        keys = f"eval.keep_log_weights=true, {key}={samples} and eval.images={scoring.images}"
        _refuse_above(NUMBERS_KEPT, arrays * samples * scoring.images, "numbers in log_weights.npz", keys)


def _step(settings: "Settings", units: int) -> tuple[int, str]:
    """How many numbers a step has in memory, and the keys that decide it.

    For each image these are the units of all its passes. If samples are processed in pieces, they are the units of
    one pass, and the noise of all.
    """
    objective, batch_size = settings.objective, settings.trainer.batch_size
    passes = {f"objective.{key}": count for key, count in objective.passes().items()}
    samples = settings.k * math.prod(passes.values())
    noise = sum(settings.model.stochastic_layers()) or 1
    numbers = units + samples * noise if objective.in_pieces else samples * units
    counts = {"k": settings.k, **passes, "trainer.batch_size": batch_size}
    return batch_size * numbers, ", ".join(f"{key}={count}" for key, count in counts.items())


def _num_weights(layers: list[int]) -> int:
    return sum(below * above for below, above in pairwise(layers))


def _refuse_above(limit: int, number: int, what: str, keys: str) -> None:
    if number > limit:
        raise UserError(f"{keys}: {number:,} {what}, and at most {limit:,} are allowed")
