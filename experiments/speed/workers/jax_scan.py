"""The fastest peer: JAX, many steps compiled as one program (jit of a scan), with Adam written out.

An option says how many runs take their steps together, by vmap.
"""

import os
from functools import partial
from typing import Any

os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = (
    "false"  # JAX would take three quarters of a GPU's memory at once
)
import jax
import jax.numpy as jnp
from jax import Array, lax

from experiments.speed.setting import ADAM_EPS, BATCH, GREY, HIDDEN, LATENT, LEARNING_RATE, PIXELS, task
from experiments.speed.workers.protocol import Run, serve

LAYERS = {
    "encoder_1": (PIXELS, HIDDEN),
    "encoder_2": (HIDDEN, HIDDEN),
    "mean": (HIDDEN, LATENT),
    "log_scale": (HIDDEN, LATENT),
    "decoder_1": (LATENT, HIDDEN),
    "decoder_2": (HIDDEN, HIDDEN),
    "decoder_3": (HIDDEN, PIXELS),
}
BETA_1, BETA_2 = 0.9, 0.999
Parameters = dict[str, dict[str, Array]]


def start(key: Array) -> Parameters:
    """Glorot-uniform weights and zero biases."""
    glorot = jax.nn.initializers.glorot_uniform()
    keys = jax.random.split(key, len(LAYERS))
    return {
        name: {"weight": glorot(key, shape), "bias": jnp.zeros(shape[1])}
        for (name, shape), key in zip(LAYERS.items(), keys, strict=True)
    }


def loss(parameters: Parameters, x: Array, noise: Array) -> Array:
    """-sum over the batch of log (1/k) sum_i w_i: x [B, X], noise [k, B, D]."""

    def linear(name: str, y: Array) -> Array:
        return y @ parameters[name]["weight"] + parameters[name]["bias"]

    h = jnp.tanh(linear("encoder_2", jnp.tanh(linear("encoder_1", x))))
    mean, log_scale = linear("mean", h), linear("log_scale", h)
    z = mean + jnp.exp(log_scale) * noise
    logits = linear("decoder_3", jnp.tanh(linear("decoder_2", jnp.tanh(linear("decoder_1", z)))))
    log_likelihood = jnp.sum(x * logits - jax.nn.softplus(logits), -1)
    log_prior = -0.5 * jnp.sum(z**2, -1)
    log_q = -0.5 * jnp.sum(noise**2, -1) - jnp.sum(log_scale, -1)  # both less the same constant
    log_w = log_likelihood + log_prior - log_q
    return -jnp.sum(jax.nn.logsumexp(log_w, axis=0) - jnp.log(len(noise)))


def adam(parameters: Any, gradients: Any, state: Any) -> tuple[Any, Any]:
    """One step of Adam (Kingma and Ba 2015, Algorithm 1); state: both moments and the number of steps."""
    first, second, step = state
    step = step + 1
    first = jax.tree.map(lambda m, g: BETA_1 * m + (1 - BETA_1) * g, first, gradients)
    second = jax.tree.map(lambda v, g: BETA_2 * v + (1 - BETA_2) * g * g, second, gradients)
    bias_1, bias_2 = 1 - BETA_1**step, 1 - BETA_2**step

    def moved(p: Array, m: Array, v: Array) -> Array:
        return p - LEARNING_RATE * (m / bias_1) / (jnp.sqrt(v / bias_2) + ADAM_EPS)

    return jax.tree.map(moved, parameters, first, second), (first, second, step)


@partial(jax.jit, static_argnames=("k", "steps"))
def many(images: Array, carry: Any, keys: Array, k: int, steps: int) -> Any:
    """`steps` training steps of every run, each with a key of its own."""
    if len(keys) > 1:
        return jax.vmap(lambda carry, key: one(images, carry, key, k, steps))(carry, keys)
    alone = one(images, jax.tree.map(lambda each: each[0], carry), keys[0], k, steps)
    return jax.tree.map(lambda each: each[None], alone)


def one(images: Array, carry: Any, key: Array, k: int, steps: int) -> Any:
    """`steps` training steps: a fresh batch, fresh pixels, fresh noise, gradient, Adam."""

    def body(carry: Any, key: Array) -> tuple[Any, None]:
        parameters, state = carry
        for_rows, for_pixels, for_noise = jax.random.split(key, 3)
        grey = images[jax.random.randint(for_rows, (BATCH,), 0, len(images))].astype(jnp.float32) / GREY
        x = (jax.random.uniform(for_pixels, grey.shape) < grey).astype(jnp.float32)
        noise = jax.random.normal(for_noise, (k, BATCH, LATENT))
        return adam(parameters, jax.grad(loss)(parameters, x, noise), state), None

    return lax.scan(body, carry, jax.random.split(key, steps))[0]


def prepare(case: str) -> Run:
    """The case is k; a program of 100 steps at k = 1 and 10 at k = 50, so that a turn can be short."""
    k = int(case)
    steps = max(10, 100 // k)
    parameters = jax.vmap(start)(jax.random.split(jax.random.key(0), RUNS))
    zeros = jax.tree.map(jnp.zeros_like, parameters)
    carry, key = (parameters, (zeros, zeros, jnp.zeros(RUNS))), jax.random.key(1)

    def run(count: int) -> int:
        nonlocal carry, key
        programs = -(-count // (steps * RUNS))
        for _ in range(programs):
            key, this = jax.random.split(key)
            carry = many(IMAGES, carry, jax.random.split(this, RUNS), k, steps)
        jax.block_until_ready(carry)
        return programs * steps * RUNS

    return run


if __name__ == "__main__":
    images, device, options = task()
    RUNS = int(options[0]) if options else 1
    IMAGES = jax.device_put(images, jax.devices({"cpu": "cpu", "cuda": "gpu"}[device])[0])
    jax.config.update("jax_default_device", next(iter(IMAGES.devices())))
    serve(prepare)
