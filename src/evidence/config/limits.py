"""What a run would hold or keep, estimated from its settings: an absurd size is a message, not a crash in an hour.

The estimates are low, and the limits so high that only a slip of the keyboard reaches them.
"""

from itertools import pairwise
from typing import TYPE_CHECKING

from evidence.config.schema import (
    ELBO,
    IWAE,
    SIVI,
    UIVI,
    Critic,
    CriticWeighted,
    Explicit,
    Hierarchical,
    HMCSampler,
    SemiImplicit,
)
from evidence.errors import UserError

if TYPE_CHECKING:
    from evidence.config.settings import Settings

PARAMETERS = 10**9  # of an encoder: 16 GB with gradient and Adam's moments; the decoder takes as much again
NUMBERS = 10**10  # at a time: 40 GB, and a graph holds them more than once
IMAGES_SCORED = 100  # at a time, as evaluation.py has it, which imports torch
NUMBERS_KEPT = 10**11  # in log_weights.npz: 400 GB


def check(settings: "Settings") -> None:
    """Raises UserError, naming the keys, where the parameters, a step or the evaluation are beyond all memory."""
    objective, rows = settings.objective, settings.eval.rows
    layers = _layers(settings)
    units = f"{sum(layers):,} units in all layers"
    samples, keys = _samples(settings)
    step = settings.trainer.batch_size * _numbers_of_an_image(settings, samples, sum(layers))
    _refuse_above(PARAMETERS, _num_weights(layers), "parameters", "model.latent and model.hidden")
    if isinstance(objective, CriticWeighted) and isinstance(objective.critic, Critic):
        weights = _num_weights([settings.data.pixels, *objective.critic.hidden])
        _refuse_above(PARAMETERS, weights, "parameters", "objective.critic.hidden")
    keys = f"{keys}, trainer.batch_size={settings.trainer.batch_size} and {units}"
    _refuse_above(NUMBERS, step, "numbers in a step", keys)
    _refuse_above(NUMBERS, rows * sum(layers), "numbers at a time", f"eval.rows={rows} and {units}")
    if isinstance(settings.model, SemiImplicit):
        noises, latent = settings.eval.semi_implicit.noises, settings.model.latent
        keys = f"eval.semi_implicit.noises={noises} and model.latent={latent}"
        _refuse_above(NUMBERS, IMAGES_SCORED * noises * latent, "numbers at a time", keys)
    _check_kept(settings)


def _check_kept(settings: "Settings") -> None:
    """The file of the log-weights; how many images eval.images=null is, only the data set knows."""
    scoring = settings.eval
    if scoring.keep_log_weights and scoring.images is not None:
        arrays, key, samples = 1, "eval.samples", scoring.samples
        if isinstance(settings.model, SemiImplicit):
            arrays, key, samples = 3, "eval.semi_implicit.samples", scoring.semi_implicit.samples
        keys = f"eval.keep_log_weights=true, {key}={samples} and eval.images={scoring.images}"
        _refuse_above(NUMBERS_KEPT, arrays * samples * scoring.images, "numbers in log_weights.npz", keys)


def _layers(settings: "Settings") -> list[int]:
    """Sizes from the pixels to the top of the encoder, which the decoder mirrors."""
    match settings.model:
        case Hierarchical(latent=latent, hidden=hidden):
            inner = [size for units, top in zip(hidden, latent, strict=True) for size in (*units, top)]
        case Explicit(latent=top, hidden=units) | SemiImplicit(latent=top, hidden=units):
            inner = [*units, top]
        case _:
            inner = []
    return [settings.data.pixels, *inner]


def _samples(settings: "Settings") -> tuple[int, str]:
    """How often a step passes an image through the layers, and the keys that say so."""
    match settings.objective:
        case SIVI(num_noises=count):
            return settings.k * count, f"k={settings.k}, objective.num_noises={count}"
        case UIVI(reverse_conditional=HMCSampler(num_samples=count)):
            keys = f"k={settings.k}, objective.reverse_conditional.num_samples={count}"
            return settings.k * count, keys
        case _:
            return settings.k, f"k={settings.k}"


def _numbers_of_an_image(settings: "Settings", samples: int, units: int) -> int:
    """In a step: all samples' units, or where samples go in pieces one sample's, and the noise, drawn whole."""
    if not isinstance(settings.objective, ELBO | IWAE):
        return samples * units
    match settings.model:
        case Hierarchical(latent=latent):
            noise = sum(latent)
        case Explicit(latent=noise) | SemiImplicit(latent=noise):
            pass
        case _:
            noise = 1
    return units + samples * noise


def _num_weights(layers: list[int]) -> int:
    return sum(below * above for below, above in pairwise(layers))


def _refuse_above(limit: int, number: int, what: str, keys: str) -> None:
    if number > limit:
        raise UserError(f"{keys}: {number:,} {what}, and at most {limit:,} are allowed")
