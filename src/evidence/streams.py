"""Random numbers that are a function of (seed, purpose, step, use, position): the same alone and beside others.

They are Philox4x64-10 of a counter under a key (Salmon, Moraes, Dror and Shaw 2011, "Parallel random numbers: as easy
as 1, 2, 3"), as in numpy.random.Philox. The key is (seed, purpose), with all 64 bits of the seed. So a step needs no
state but its number, and a CPU and a GPU draw the same numbers. While a stream is open every draw of this package comes
from it; else it comes from torch's global generator, as a user's own calls of torch.randn do.
"""

import contextlib
import math
import random
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

TRAINING, BINARIZATION, VALIDATION, TEST, FIGURES = range(5)  # purposes: each has numbers of its own
MULTIPLIERS = 0xD2E7470EE14C6C93, 0xCA5A826395121157
KEY_STEPS = 0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B
ROUNDS = 10
WORD, HALF = 2**64 - 1, 2**32 - 1
BITS = 2**23 - 1  # of a uniform number: with 24 bits the largest would round to 1 in float32


class Stream(NamedTuple):
    """Where draws come from: numbers of a step, or of images, int64 [B], where draws are [K, B, ...].

    With ints NumPy draws, which is fast for a single step; with int64 tensors torch does, under torch.compile and
    torch.vmap and on a GPU.
    """

    seed: int | Tensor
    purpose: int
    step: int | Tensor = 0
    images: Tensor | None = None

    def tensors(self, device: torch.device | str) -> "Stream":
        """The same in tensors on the device."""
        return self._replace(seed=_tensor(self.seed, device), step=_tensor(self.step, device))


class _State:
    """The open stream, the number of the next use of random numbers, and the number of the first sample."""

    def __init__(self) -> None:
        self.stream: Stream | None = None
        self.use: int = 0
        self.first_sample: int | Tensor = 0


_state = _State()


@contextlib.contextmanager
def drawing(stream: Stream | None) -> Iterator[None]:
    """Inside, draws come from the stream, or for None as they did."""
    outer = _state.stream
    # Without a stream, use and sample mean nothing; and the compiler would guard each value that is read.
    is_within = outer is not None
    use, first = (_state.use, _state.first_sample) if is_within else (0, 0)
    if stream is not None:
        _state.stream, _state.use, _state.first_sample = stream, 0, 0
    try:
        yield
    finally:
        _state.stream, _state.use, _state.first_sample = outer, use, first


def samples(first: int | Tensor, use: int) -> None:
    """In a stream of images: the next draw is of the samples `first`, first + 1, ...; `use` says what they are for."""
    _state.first_sample, _state.use = first, use


def open_stream() -> Stream | None:
    """The stream that draws come from now."""
    return _state.stream


def normal(shape: Sequence[int], like: Tensor) -> Tensor:
    """Standard normal numbers (Box and Muller 1958), of the dtype and on the device of `like`."""
    if _state.stream is None:
        return torch.randn(*shape, dtype=like.dtype, device=like.device)
    words = _words(_state.stream, shape, like.device)
    low, high = _fractions(words >> 9, like), _fractions(words >> 41, like)
    radius, angle = (-2 * low.log()).sqrt(), 2 * math.pi * high
    return _shaped(torch.cat([radius * angle.cos(), radius * angle.sin()], -1), shape)


def uniform(shape: Sequence[int], like: Tensor) -> Tensor:
    """Numbers between 0 and 1, neither of them included, of the dtype and on the device of `like`."""
    if _state.stream is None:
        return torch.rand(*shape, dtype=like.dtype, device=like.device)
    words = _words(_state.stream, shape, like.device)
    if _is_plain(_state.stream, like.device):
        return _shaped(_fractions(words.view(torch.int32) >> 9, like), shape)  # the lower half comes first
    return _shaped(
        torch.stack([_fractions(words >> 9, like), _fractions(words >> 41, like)], -1).flatten(-2), shape
    )


def seed_globally(device: torch.device, *parts: int) -> None:
    """Make torch's global generators a function of all bits of the parts, for what draws from them."""
    word = mixed(*parts) & HALF
    torch.default_generator.manual_seed(word)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(word)


def mixed(*parts: int) -> int:
    """A word of 64 bits, of all bits of the parts: splitmix64 (Steele, Lea and Flood 2014)."""
    word = 0
    for part in parts:
        word = word + part + KEY_STEPS[0] & WORD
        word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9 & WORD
        word = (word ^ word >> 27) * 0x94D049BB133111EB & WORD
        word ^= word >> 31
    return word


@contextlib.contextmanager
def forked_rng(device: torch.device, *seeds: int) -> Iterator[None]:
    """Inside, the global generators of torch, NumPy and Python depend on `seeds` alone.

    Afterwards they go on as if nothing had happened.
    """
    with torch.random.fork_rng([device] if device.type == "cuda" else []), seeded_others(*seeds):
        seed_globally(device, *seeds)
        yield


@contextlib.contextmanager
def seeded_others(*seeds: int) -> Iterator[None]:
    """As `forked_rng`, of NumPy's and Python's global generators only."""
    numpy, python, word = np.random.get_state(), random.getstate(), mixed(*seeds)
    np.random.seed([word & HALF, word >> 32])
    random.seed(word)
    try:
        yield
    finally:
        np.random.set_state(numpy)
        random.setstate(python)


def philox(counter: Sequence[Tensor], key: Sequence[Tensor | int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Four words of 64 bits, in int64, for each counter of four such words; they broadcast against each other."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        high0, low0 = _product(c0, MULTIPLIERS[0])
        high1, low1 = _product(c2, MULTIPLIERS[1])
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = _sum(k0, KEY_STEPS[0]), _sum(k1, KEY_STEPS[1])
    return c0, c1, c2, c3


def _product(a: Tensor, constant: int) -> tuple[Tensor, Tensor]:
    """The upper and the lower 64 bits of the 128 of a product, from products of halves."""
    high, low = constant >> 32, constant & HALF
    a_high, a_low = a >> 32 & HALF, a & HALF
    middle = a_high * low + (a_low * low >> 32 & HALF)
    other = a_low * high + (middle & HALF)
    return a_high * high + (middle >> 32 & HALF) + (other >> 32 & HALF), a * signed(constant)


def _tensor(word: int | Tensor, device: torch.device | str) -> Tensor:
    return torch.tensor(signed(word), device=device) if isinstance(word, int) else word


def _sum(key: Tensor | int, constant: int) -> Tensor | int:
    return signed(key + constant) if isinstance(key, int) else key + signed(constant)


def signed(word: int) -> int:
    """The 64 bits as two's complement."""
    return (word + 2**63) % 2**64 - 2**63


def _words(stream: Stream, shape: Sequence[int], device: torch.device) -> Tensor:
    """Words for two numbers each: [words], or of images [K, B, words of a sample], int64."""
    of_sample = math.prod(shape if stream.images is None else shape[2:])
    count = -(-of_sample // 2)
    words = (_numpy_words if _is_plain(stream, device) else _torch_words)(
        stream, shape, -(-count // 4), device
    )
    if stream.images is None:
        _state.use += 1
    return words[..., :count]


def _is_plain(stream: Stream, device: torch.device) -> bool:
    return isinstance(stream.seed, int) and device.type == "cpu"


def _fractions(words: Tensor, like: Tensor) -> Tensor:
    """Numbers in (0, 1) of the lowest 23 bits."""
    return (words & BITS).to(like.dtype) * 2**-23 + 2**-24


def _shaped(numbers: Tensor, shape: Sequence[int]) -> Tensor:
    """Numbers [..., at least as many as are needed] in the shape."""
    return numbers[..., : math.prod(shape[numbers.dim() - 1 :])].reshape(tuple(shape))


def _numpy_words(stream: Stream, shape: Sequence[int], blocks: int, device: torch.device) -> Tensor:
    """As `_torch_words`. NumPy's first block is that of the counter after the one it is given."""

    def raw(first: int, number: int, count: int) -> np.ndarray:
        counter = np.array([first, _state.use, number, 0], np.uint64)
        key = np.array([stream.seed, stream.purpose], np.uint64)
        return np.random.Philox(counter=counter, key=key).random_raw(4 * count).view(np.int64)

    if stream.images is None:
        return torch.from_numpy(raw(0, int(stream.step), blocks))
    first = int(_state.first_sample) * blocks
    rows = [raw(first, number, shape[0] * blocks) for number in stream.images.tolist()]
    return torch.from_numpy(np.stack(rows).reshape(len(rows), shape[0], -1).swapaxes(0, 1))


def _torch_words(stream: Stream, shape: Sequence[int], blocks: int, device: torch.device) -> Tensor:
    """`blocks` times four words of the step, or of each sample of each image: [..., words], int64.

    The counter is (1 + position, use, step or image, 0).
    """
    step, seed = _tensor(stream.step, device), _tensor(stream.seed, device)
    # Zero, but for the compiler, which else multiplies positions as if they were array indices, and wrongly.
    zero = step >> 63
    place, number = torch.arange(1, 1 + blocks, device=device), step
    if stream.images is not None:
        sample = torch.arange(shape[0], device=device)[:, None, None] + _state.first_sample
        place, number = place + sample * blocks, stream.images[:, None]
    words = philox([place ^ zero, zero + _state.use, number, zero], (seed, stream.purpose))
    return torch.stack(torch.broadcast_tensors(*words), -1).flatten(-2)
