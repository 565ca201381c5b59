"""Random numbers as a function of (seed, purpose, step, use, position)."""

import math
from collections.abc import Callable, Iterator

import numpy as np
import problems
import pytest
import torch
from scipy import stats
from torch import Tensor

from evidence import streams
from evidence.data import Dataset, batches
from evidence.distributions import DiagonalNormal
from evidence.evaluation import Evaluators, ImportanceSampling, Noise, SemiImplicitSampling, evaluate, scoring
from evidence.models import LatentVariableModel
from evidence.networks import Critic
from evidence.objectives import ELBO, IWAE, SIVI, UIVI, CriticWeighted, Objective
from evidence.objectives.reverse_conditional import HMCSampler
from evidence.streams import TEST, TRAINING, Stream, drawing, forked_rng, normal, uniform
from evidence.training import Segment, gradients, parameter_groups, train

CPU = torch.device("cpu")
LIKE = torch.zeros(1, dtype=torch.float64)
SEEDS = [0, 7, 7 + 2**32, 7 + 2**62, 2**63 - 1]
STEPS = [Segment(40, 1e-2)]


def drawn(stream: Stream, shape: tuple[int, ...] = (3, 5, 7)) -> Tensor:
    with drawing(stream):
        return torch.stack([normal(shape, LIKE), normal(shape, LIKE), uniform(shape, LIKE)])


@pytest.mark.parametrize("seed", SEEDS)
def test_torch_and_numpy_compute_the_same_words(seed: int) -> None:
    """NumPy's implementation of Philox4x64-10 is another one."""
    count, step, purpose = 50, 123_456_789, 3
    place, zero = torch.arange(1, 1 + count), torch.tensor(0)
    words = streams.philox([place, zero + 2, zero + step, zero], (torch.tensor(seed), purpose))
    key, counter = np.array([seed, purpose], np.uint64), np.array([0, 2, step, 0], np.uint64)
    expected = np.random.Philox(counter=counter, key=key).random_raw(4 * count).view(np.int64)
    assert torch.equal(torch.stack(words, -1).flatten(), torch.from_numpy(expected))


def test_every_part_of_a_stream_counts_and_all_bits_of_the_seed() -> None:
    plain = Stream(7, 1, 5)
    others = [plain._replace(seed=seed) for seed in SEEDS if seed != 7]
    others += [plain._replace(purpose=2), plain._replace(step=6)]
    found = [drawn(stream) for stream in (plain, *others)]
    first, second, _ = found[0]
    assert not torch.equal(first, second)
    assert len({tuple(each.flatten().tolist()) for each in found}) == len(found)
    assert torch.equal(drawn(plain), found[0])


def test_numbers_have_their_distribution_and_do_not_correlate() -> None:
    with drawing(Stream(3, TRAINING, 1)):
        one, two = normal((400, 500), LIKE), normal((400, 500), LIKE)
        chance = uniform((400, 500), LIKE)
    with drawing(Stream(3, TRAINING, 2)):
        later = normal((400, 500), LIKE)
    assert stats.kstest(one.flatten().numpy(), "norm").pvalue > 1e-3
    assert stats.kstest(chance.flatten().numpy(), "uniform").pvalue > 1e-3
    assert chance.min() > 0
    assert chance.max() < 1
    error = 1 / math.sqrt(one.numel())
    for other in (two, later, one.roll(1, 0), one.roll(1, 1), one.flip(1)):
        assert abs((one * other).mean()) < 5 * error
        assert abs(((one**2 - 1) * (other**2 - 1)).mean()) < 5 * 2 * error


def test_float32_has_the_same_numbers_and_never_a_zero_or_a_one() -> None:
    with drawing(Stream(3, TRAINING)):
        wide = uniform((10**6,), LIKE)
    with drawing(Stream(3, TRAINING)):
        narrow = uniform((10**6,), LIKE.float())
    assert torch.equal(narrow.double(), wide)
    assert (narrow > 0).all()
    assert (narrow < 1).all()
    low, high = (torch.tensor(word).float() * 2**-23 + 2**-24 for word in (0, streams.BITS))
    assert 0 < low < high < 1


def test_an_image_and_a_sample_have_the_same_numbers_in_any_company() -> None:
    images = torch.tensor([4, 0, 9999, 17])

    def block(images: Tensor, first: int, count: int, use: int = 0) -> Tensor:
        with drawing(Stream(3, TEST, images=images)):
            streams.samples(first, use)
            return normal((count, len(images), 13), LIKE)

    whole = block(images, 0, 20)
    assert torch.equal(block(images, 5, 3), whole[5:8])
    assert torch.equal(block(images[2:3], 5, 3), whole[5:8, 2:3])
    assert not torch.isclose(block(images, 0, 20, use=1), whole).any()
    with drawing(Stream(3, TEST, images=images).tensors(CPU)):
        streams.samples(torch.tensor(5), 0)
        assert torch.equal(normal((3, 4, 13), LIKE), whole[5:8])


def test_seeds_stacked_by_vmap_draw_what_each_draws_alone() -> None:
    def numbers(seed: Tensor) -> Tensor:
        return drawn(Stream(seed, TRAINING, torch.tensor(11)))

    stacked = torch.vmap(numbers)(torch.tensor(SEEDS))
    assert torch.equal(stacked, torch.stack([drawn(Stream(seed, TRAINING, 11)) for seed in SEEDS]))


def test_outside_of_a_stream_and_after_it_numbers_come_from_the_global_generator() -> None:
    expected = torch.randn(4, dtype=torch.float64)
    torch.manual_seed(0)
    with drawing(Stream(1, TRAINING)), drawing(Stream(2, TRAINING)):
        normal((3,), LIKE)
    with pytest.raises(ZeroDivisionError), drawing(Stream(1, TRAINING)):
        _ = 1 / 0
    assert torch.equal(normal((4,), LIKE), expected)


OBJECTIVES: dict[str, Callable[[], Objective]] = {
    "vae": lambda: ELBO(2),
    "iwae": lambda: IWAE(4, 1),
    "critic path": lambda: CriticWeighted(2, "path", "evidence", 3.0, 4, Critic(problems.X_DIM, [3], "tanh")),
    "critic elbo": lambda: CriticWeighted(2, "elbo", "elbo", 3.0, 4, Critic(problems.X_DIM, [3], "tanh")),
    "sivi": lambda: SIVI(2, 3),
    "uivi": lambda: UIVI(1, HMCSampler(2, 2, 3, 0.1, 0.9, 0.05)),
}


def trained(name: str, seed: int, in_torch: bool = False, first_step: int = 0) -> Iterator[list[Tensor]]:
    """All parameters and buffers after each step of 40."""
    torch.manual_seed(5)
    model = problems.semi_implicit_gaussian() if name in ("uivi", "sivi") else problems.linear_gaussian()
    objective = OBJECTIVES[name]()
    optimizer = torch.optim.Adam(parameter_groups(model, objective, 0.2), eps=1e-4)  # type: ignore[arg-type]
    x = problems.images(6)

    def by_torch(*arguments: object, stream: Stream) -> object:
        return gradients(*arguments, stream=stream.tensors(CPU))  # type: ignore[arg-type,attr-defined]

    differentiate = by_torch if in_torch else gradients
    batches = iter(lambda: x, None)
    for _ in train(
        model,
        objective,
        optimizer,
        batches,
        STEPS,
        "sum",
        1,
        first_step,
        differentiate,
        seed,  # type: ignore[arg-type]
    ):
        modules = (*model.state_dict().values(), *objective.state_dict().values())
        yield [value.clone() for value in modules]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_numpy_and_torch_train_the_same_parameters_and_each_seed_its_own(name: str, float64: None) -> None:
    *_, last = trained(name, 2**62 + 3)
    *_, same = trained(name, 2**62 + 3, in_torch=True)
    *_, other = trained(name, 3)
    for one, two in zip(last, same, strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=1e-9)
    assert any(not torch.allclose(one, two) for one, two in zip(last, other, strict=True))


class TorchsOwn(ELBO):
    """A user's objective that draws by torch.randn."""

    def forward(self, model: LatentVariableModel, x: Tensor) -> object:
        estimate = super().forward(model, x + 0.01 * torch.randn_like(x))
        return estimate._replace(metrics={**estimate.metrics, "noise": torch.rand(())})


def test_a_users_torch_randn_is_a_function_of_the_seed_and_the_step(float64: None) -> None:
    def noises(seed: int, first_step: int) -> list[float]:
        model, objective = problems.linear_gaussian(), TorchsOwn(1)
        optimizer = torch.optim.SGD(parameter_groups(model, objective, 1.0), lr=0.0)  # type: ignore[arg-type]
        batches = iter(lambda: problems.images(2), None)
        segments = [Segment(6, 1e-9)]
        reports = train(model, objective, optimizer, batches, segments, "sum", 1, first_step, gradients, seed)
        return [report.metrics["noise"] for report in reports]

    whole = noises(1, 0)
    assert noises(1, 3) == whole[3:]
    assert len(set(whole)) == 6
    assert not set(whole) & set(noises(1 + 2**40, 0))


def test_binarization_depends_on_the_seed_and_the_step_alone() -> None:
    images = torch.arange(64, dtype=torch.uint8).repeat(10, 1)
    dataset = Dataset(images, 64, images > 32, images > 32, (8, 8), {})  # type: ignore[arg-type]
    stream = batches(dataset, 3, 2**40, 0, CPU)
    whole = [next(stream) for _ in range(8)]
    torch.manual_seed(9)
    stream = batches(dataset, 3, 2**40, 5, CPU)
    assert torch.equal(torch.stack([next(stream) for _ in range(3)]), torch.stack(whole[5:]))
    assert not torch.equal(whole[0], next(batches(dataset, 3, 0, 0, CPU)))
    assert not torch.equal(whole[0], whole[1])


@pytest.mark.parametrize("kind", ["density", "semi-implicit"])
def test_rows_and_images_at_a_time_and_other_images_change_no_score(
    kind: str, float64: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = problems.linear_gaussian() if kind == "density" else problems.semi_implicit_gaussian()
    x, numbers = problems.images(230), torch.arange(230) * 3

    def scored(rows: int, chosen: Tensor) -> dict[str, Tensor]:
        kept: list[dict[str, Tensor]] = []
        both = Evaluators(ImportanceSampling(9, rows), SemiImplicitSampling(9, 8, rows))
        noise = Noise(1, TEST, numbers[chosen])
        evaluate(model, x[chosen], both.suited_to(model, x), lambda _: None, kept.append, noise)
        return {name: torch.cat([each[name] for each in kept], 1) for name in kept[0]}

    everything = torch.arange(230)
    whole = scored(10**6, everything)
    for rows in (1, 250, 7000):
        for name, values in scored(rows, everything).items():
            torch.testing.assert_close(values, whole[name], rtol=0, atol=1e-10)
    with monkeypatch.context() as patch:
        patch.setattr(scoring, "ON_CPU", scoring.Sizes(images=37, samples=4, rows=0))
        for name, values in scored(100, everything).items():
            torch.testing.assert_close(values, whole[name], rtol=0, atol=1e-10)
    some = torch.tensor([3, 150, 151, 229])
    for name, values in scored(100, some).items():
        torch.testing.assert_close(values, whole[name][:, some], rtol=0, atol=1e-10)


class TorchsNormal(DiagonalNormal):
    """A user's posterior, whose noise is torch's own."""

    def noise(self, num_samples: int) -> Tensor:
        return torch.randn(num_samples, *self.shape, dtype=self.mean.dtype)


def test_rows_at_a_time_change_no_score_of_a_posterior_that_draws_by_torch_randn(float64: None) -> None:
    class Posterior(type(problems.linear_gaussian().posterior)):  # type: ignore[misc]
        def forward(self, x: Tensor) -> TorchsNormal:
            return TorchsNormal(*super().forward(x))

    model, x = problems.linear_gaussian(), problems.images(130)
    model.posterior.__class__ = Posterior
    found = []
    for rows in (1, 350, 2000, 7000, 10**6):
        evaluator, noise = ImportanceSampling(45, rows), Noise(1, TEST, torch.arange(130))
        found.append(evaluate(model, x, evaluator, lambda _: None, noise=noise).metrics)
    for metrics in found[1:]:
        assert metrics == pytest.approx(found[0], rel=1e-12)


def test_a_fork_of_the_global_generator_counts_all_bits_of_its_seeds() -> None:
    found = set()
    for seeds in [(0,), (1,), (2**32,), (2**40 + 1,), (1, 2), (2, 1), (1, 2 + 2**33)]:
        with forked_rng(CPU, *seeds):
            found.add(float(torch.rand(())))
    assert len(found) == 7
