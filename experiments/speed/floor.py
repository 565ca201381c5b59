"""The least a step can take: the operations of its matrix products at the rate the machine reaches on them alone.

A product [rows, in] x [in, out] takes 2 rows in out operations; a layer's backward pass is two such products, one
for its weights and one for its input. Nobody needs the gradient with respect to the pixels.
"""

from itertools import pairwise

from experiments.speed.setting import HIDDEN, LATENT, PIXELS

SHAPE = (
    1000,
    HIDDEN,
    PIXELS,
)  # of the product whose rate is taken: the decoder's last at k = 50 and batch 20


def product(rows: int, in_dim: int, out_dim: int) -> int:
    """Operations of one matrix product."""
    return 2 * rows * in_dim * out_dim


def encoder(rows: int) -> int:
    """One forward pass from pixels to mean and scale."""
    return sum(product(rows, *layer) for layer in pairwise([PIXELS, HIDDEN, HIDDEN, 2 * LATENT]))


def decoder(rows: int) -> int:
    """One forward pass from latent units to logits."""
    return sum(product(rows, *layer) for layer in pairwise([LATENT, HIDDEN, HIDDEN, PIXELS]))


def step(k: int, batch: int, num_exact: int | None = None) -> int:
    """A training step of IWAE; with `num_exact` = m only m + 1 samples an image go backward, after a look at all k."""
    ends = 3 * encoder(batch) - product(batch, PIXELS, HIDDEN)
    if num_exact is None or num_exact + 1 >= k:
        return ends + 3 * decoder(k * batch)
    return ends + decoder(k * batch) + 3 * decoder((num_exact + 1) * batch)
