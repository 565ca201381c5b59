"""A trained model, with what its run has recorded of it."""

import contextlib
import numbers
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from evidence import streams
from evidence.config.settings import Settings
from evidence.errors import UserError
from evidence.evaluation import Evaluator, Noise, SemiImplicitSampling, sizes
from evidence.models import LatentVariableModel
from evidence.modules import scoring
from evidence.runs import build
from evidence.streams import forked_rng
from evidence.trained import images
from evidence.trained.images import Binarize


@dataclass(frozen=True, repr=False)
class TrainedModel:
    """A model as a run's checkpoint has it, in eval mode.

    step: the number of training steps. image_shape: the height H and the width W of an image,
    None where the record of an earlier version does not say.
    metrics: the final numbers, empty where the run is not finished.
    history: a DataFrame of metrics.csv, with columns name, value and step.

    Images `x` are 0 and 1, [B, X] or [B, H, W]. Grey ones are made so only where `binarize` says how. Random numbers
    are a function of `seed`, which is the run's eval.seed where it is None. Results are on the model's device.
    """

    folder: Path
    step: int
    model: LatentVariableModel
    settings: Settings
    image_shape: tuple[int, int] | None
    metrics: dict[str, float]
    history: pd.DataFrame
    device: torch.device

    def __repr__(self) -> str:
        return f"TrainedModel({self.folder.name}, step {self.step})"

    @property
    def config(self) -> dict[str, Any]:
        """The settings of config.yaml."""
        return self.settings.model_dump(by_alias=True)

    @torch.no_grad()
    def sample(self, num_images: int, seed: int | None = None) -> Tensor:
        """Images from the prior, [num_images, X]: the mean of p(x | z), of Bernoulli pixels the probability of 1."""
        _check_count("num_images", num_images)
        with self._drawing(seed):
            prior = self.model.prior()
            return self._mean(prior.rsample(prior.noise(num_images)))

    @torch.no_grad()
    def encode(self, x: Any, *, binarize: Binarize | None = None) -> Any:
        """q(z | x), the distribution that the model's posterior returns. q.sample(K) draws z [K, B, D]."""
        rows = self._images(x, binarize, None)
        with scoring(self.model):
            return self.model.posterior(rows)

    @torch.no_grad()
    def reconstruct(self, x: Any, seed: int | None = None, *, binarize: Binarize | None = None) -> Tensor:
        """The mean of p(x | z), [B, X], for one z of q(z | x) for each image."""
        q = self.encode(x, binarize=binarize)
        with self._drawing(seed):
            return self._mean(q.rsample(q.noise(1))[0])

    def log_prob(
        self, x: Any, num_samples: int = 5000, seed: int | None = None, *, binarize: Binarize | None = None
    ) -> Tensor:
        """An estimate of log p(x) of each image, in nats: float64 [B].

        It is L_S with S = num_samples importance samples, a lower bound in expectation. A semi-implicit q(z | x) is
        scored by SemiImplicitSampling, with the run's number of noises. Minus the mean over the test images is the
        run's test/nll, to rounding, where S and the seed are the run's.
        """
        rows = self._images(x, binarize, seed)
        evaluator = self._evaluator(num_samples, rows)

        def score(batch: Tensor) -> Tensor:
            return -evaluator.scores(self.model, batch, None)["nll"]

        return self._of_batches(rows, seed, score)

    def log_weights(
        self, x: Any, num_samples: int = 100, seed: int | None = None, *, binarize: Binarize | None = None
    ) -> Tensor:
        """log w = log p(x, z) - log q(z | x), in nats: [K, B] with K = num_samples, z of q(z | x).

        `log_prob` with the same seed is the log-mean-exp of these.
        Raises: UserError where q(z | x) has no density.
        """
        rows = self._images(x, binarize, seed)
        evaluator = self._evaluator(num_samples, rows)
        if isinstance(evaluator, SemiImplicitSampling):
            raise UserError(
                "log_weights: q(z | x) is semi-implicit and has no density, so there is no log q(z | x): log_prob"
                " estimates log p(x), by evidence.evaluation.SemiImplicitSampling"
            )

        def weights(batch: Tensor) -> Tensor:
            heard: list[dict[str, Tensor]] = []
            evaluator.scores(self.model, batch, heard.append)
            return heard[0]["log_weights"]

        return self._of_batches(rows, seed, weights)

    def _images(self, x: Any, binarize: Binarize | None, seed: int | None) -> Tensor:
        rows = images.read(x, self.settings.data.pixels, self.image_shape, binarize, self._seed(seed))
        return rows.to(next(self.model.parameters()))

    def _seed(self, seed: int | None) -> int:
        seed = self.settings.eval.seed if seed is None else seed
        if not _is_whole(seed) or not 0 <= seed < 2**64:
            raise UserError(f"seed={seed}: must be a whole number from 0 to 2**64 - 1")
        return seed

    def _evaluator(self, num_samples: int, rows: Tensor) -> Evaluator:
        """The one that scores the run's test images, with so many samples."""
        _check_count("num_samples", num_samples)
        section = self.settings.eval
        semi = section.semi_implicit.model_copy(update={"samples": num_samples})
        section = section.model_copy(update={"samples": num_samples, "semi_implicit": semi})
        suited = build.evaluators(section, self.device).suited_to(self.model, rows)
        return build.compiled(suited, self.settings.compile, self.model, len(rows), self.device)

    def _of_batches(self, rows: Tensor, seed: int | None, score: Callable[[Tensor], Tensor]) -> Tensor:
        """The scores of all images [..., B], by the noise of the images' numbers, as a run scores its test images."""
        noise = Noise(self._seed(seed), streams.TEST, torch.arange(len(rows)))
        scores = []
        for number, batch in enumerate(rows.split(sizes(self.device).images)):
            with noise.of_batch(number, self.device):
                scores.append(score(batch))
        return torch.cat(scores, -1)

    @contextlib.contextmanager
    def _drawing(self, seed: int | None) -> Iterator[None]:
        """Inside, random numbers are those of the run's figures, or of another seed."""
        seed = self._seed(seed)
        stream = streams.Stream(seed, streams.FIGURES)
        with forked_rng(self.device, seed, streams.FIGURES), streams.drawing(stream), scoring(self.model):
            yield

    def _mean(self, z: Tensor) -> Tensor:
        """The mean of p(x | z)."""
        likelihood = self.model.likelihood(z)
        if not hasattr(likelihood, "mean"):
            kind = f"{type(likelihood).__module__}.{type(likelihood).__qualname__}"
            raise UserError(f"p(x | z) is a {kind}, which has no mean: give it a property `mean`, [..., X]")
        mean: Tensor = likelihood.mean
        return mean


def _check_count(name: str, count: int) -> None:
    if not _is_whole(count) or count < 1:
        raise UserError(f"{name}={count}: must be a whole number, at least 1")


def _is_whole(value: object) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)
