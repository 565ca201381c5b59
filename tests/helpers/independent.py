"""A VAE with tanh layers in plain numpy, float64, written anew from the formulas of Burda et al. 2015.

A checkpoint's weights come in by name. It knows nothing of the package whose figures it checks.
"""

from pathlib import Path

import numpy as np
import torch

Weights = dict[str, np.ndarray]  # a checkpoint's, by name
Array = np.ndarray


def read_weights(path: Path) -> Weights:
    """The model's weights in a checkpoint, which is a torch archive."""
    state = torch.load(path, weights_only=True)
    return {name: values.numpy().astype(np.float64) for name, values in state["model"].items()}


def affine(weights: Weights, name: str, y: Array) -> Array:
    """W y + b, over the last axis."""
    return y @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def hidden(weights: Weights, name: str, y: Array) -> Array:
    """h = tanh(W h + b), one layer after the other: a trunk alternates between affine maps and tanh."""
    for layer in sorted({int(key.split(".")[-2]) for key in weights if key.startswith(f"{name}.")}):
        y = np.tanh(affine(weights, f"{name}.{layer}", y))
    return y


def moments(weights: Weights, name: str, y: Array) -> tuple[Array, Array]:
    """Mean and standard deviation of the Gaussian layer `name` given y."""
    h = hidden(weights, f"{name}.trunk", y)
    return affine(weights, f"{name}.mean", h), np.exp(affine(weights, f"{name}.log_scale", h))


def gaussian(z: Array, mean: Array | float, deviation: Array | float) -> Array:
    """log N(z; mean, deviation^2), summed over the last axis."""
    return -(np.log(2 * np.pi) + 2 * np.log(deviation) + ((z - mean) / deviation) ** 2).sum(-1) / 2


def standard_gaussian(z: Array) -> Array:
    """log N(z; 0, I)."""
    return gaussian(z, 0.0, 1.0)


def bernoulli(x: Array, logits: Array) -> Array:
    """sum_i x_i log p_i + (1 - x_i) log(1 - p_i) with p = 1 / (1 + exp(-logits))."""
    return -(x * np.logaddexp(0, -logits) + (1 - x) * np.logaddexp(0, logits)).sum(-1)


def pixels(weights: Weights, z: Array) -> Array:
    """The logits of p(x | z)."""
    return affine(weights, "likelihood.logits.1", hidden(weights, "likelihood.logits.0", z))


def log_weights_one_layer(weights: Weights, x: Array, noise: Array) -> Array:
    """log p(z) + log p(x | z) - log q(z | x), x [B, X], noise [S, B, D] -> [S, B]."""
    mean, deviation = moments(weights, "posterior", x)
    z = mean + deviation * noise
    return standard_gaussian(z) + bernoulli(x, pixels(weights, z)) - gaussian(z, mean, deviation)


def log_weights_two_layers(weights: Weights, x: Array, noise: Array, below: int) -> Array:
    """log p(h2) + log p(h1 | h2) + log p(x | h1) - log q(h1 | x) - log q(h2 | h1); h1 has `below` units."""
    mean_1, deviation_1 = moments(weights, "posterior.layers.0", x)
    h1 = mean_1 + deviation_1 * noise[..., :below]
    mean_2, deviation_2 = moments(weights, "posterior.layers.1", h1)
    h2 = mean_2 + deviation_2 * noise[..., below:]
    log_p = (
        standard_gaussian(h2)
        + gaussian(h1, *moments(weights, "prior.layers.0", h2))
        + bernoulli(x, pixels(weights, h1))
    )
    return log_p - gaussian(h1, mean_1, deviation_1) - gaussian(h2, mean_2, deviation_2)


def log_mean_exp(values: Array) -> Array:
    """log of the mean over the first axis of exp(values)."""
    largest = values.max(0)
    return largest + np.log(np.exp(values - largest).mean(0))


def covariance(a: Array, b: Array) -> Array:
    """Of two estimates [N, D] over the N images, unit by unit: [D]."""
    return np.array([np.cov(of_a, of_b)[0, 1] for of_a, of_b in zip(a.T, b.T, strict=True)])


def second_layer_means(weights: Weights, x: Array, noise: Array) -> Array:
    """E[h2 | h1, x] for draws of h1 made by noise [S, B, D_1]: [S, B, D_2]; its mean over S estimates E[h2 | x]."""
    mean, deviation = moments(weights, "posterior.layers.0", x)
    return moments(weights, "posterior.layers.1", mean + deviation * noise)[0]
