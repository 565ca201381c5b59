"""How much of a training step's gradient is signal, on a trained model and for the objective that trained it."""

import copy
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from evidence import training
from evidence.data import evenly_spaced
from evidence.models import LatentVariableModel
from evidence.objectives import Objective
from evidence.streams import TRAINING, Stream, open_stream


class Ratios(NamedTuple):
    """Of R draws of a gradient g [D].

    signal: |E g|^2, without bias |mean g|^2 - variance / R, which may be below zero.
    variance: sum_j Var g_j.
    direction: E |g_along| / |g_across|, along and across the mean of the other draws (Rainforth et al. 2018, Eq. 12).
    All are 0 where every draw is 0. A direction is infinite where nothing is across: for one parameter, D = 1.
    """

    signal: float
    variance: float
    direction: float


def ratios(draws: Tensor) -> Ratios:
    """Of draws [R, D]. A draw is not compared with itself, so that the direction of pure noise has no bias."""
    count = len(draws)
    if not draws.any():
        return Ratios(0.0, 0.0, 0.0)
    total = draws.sum(0)
    squares = draws.square().sum(1).double()
    with_all = (draws @ total).double()
    whole = total.double().square().sum()
    variance = (squares.sum() - whole / count) / (count - 1)
    others = (whole - 2 * with_all + squares).clamp(min=0).sqrt()  # the norm of the sum of the other draws
    along = torch.where(others > 0, (with_all - squares) / others, 0).abs()
    across = (squares - along.square()).clamp(min=0).sqrt()
    direction = torch.where(along > 0, along / across, 0).mean().item()
    return Ratios(
        signal=(whole / count**2 - variance / count).item(),
        variance=variance.item(),
        direction=direction if draws.shape[1] > 1 else math.inf,
    )


class GradientSNR:
    """A metric of `eval.metrics`: the signal-to-noise ratio |E g| / sqrt(tr Var g) of the gradients of the objective.

    snr_encoder is of the parameters of q(z | x), snr_decoder of those of p(x | z) and p(z). g is the gradient of a
    batch of `batch_size` images, which are fixed: only the noise of the objective is drawn anew, `num_draws` times.
    Signal and variance are means over `num_batches` batches of evenly spaced images. An objective that adapts, such
    as UIVI's step size, goes on to do so on a copy. direction_encoder and direction_decoder are
    E |g_along| / |g_across|, along and across the mean gradient (Rainforth et al. 2018, Eq. 12).
    Memory: num_draws numbers for each parameter. A ratio is 0 where no signal was found. An infinite one is left out:
    snr of draws that are all the same, and direction of a part with one parameter.
    """

    def __init__(self, num_draws: int, batch_size: int, num_batches: int) -> None:
        self.num_draws, self.batch_size, self.num_batches = num_draws, batch_size, num_batches

    def shorter(self) -> "GradientSNR":
        """The same by three draws of one batch, for a trial."""
        return GradientSNR(3, self.batch_size, 1)

    def of_all(self, model: LatentVariableModel, objective: Objective, images: Tensor) -> dict[str, Tensor]:
        """Of images [N, X]: [N] by name, the same number for each."""
        scores: dict[str, float] = {}
        for name, (signal, variance, direction) in self.ratios(model, objective, images).items():
            found = max(signal, 0.0)
            scores[f"snr_{name}"] = (
                math.sqrt(found / variance) if variance > 0 else math.inf if found else 0.0
            )
            scores[f"direction_{name}"] = direction
        finite = {name: value for name, value in scores.items() if value < math.inf}
        return {name: images.new_full((len(images),), value) for name, value in finite.items()}

    def ratios(self, model: LatentVariableModel, objective: Objective, images: Tensor) -> dict[str, Ratios]:
        """Of the encoder and of the decoder, means over the batches of images [N, X]."""
        chosen = evenly_spaced(images, self.batch_size * self.num_batches)
        batches = [chosen[number :: self.num_batches] for number in range(self.num_batches)]
        parts = {"encoder": [model.posterior], "decoder": [model.likelihood, model.prior]}
        objective = copy.deepcopy(objective)
        found: dict[str, list[Ratios]] = {name: [] for name in parts}
        for number, x in enumerate(filter(len, batches)):
            draws = self._draws(model, objective, x, parts, number * self.num_draws)
            for name, rows in draws.items():
                found[name].append(ratios(rows))
        return {
            name: Ratios(*(sum(values) / len(each) for values in zip(*each, strict=True)))
            for name, each in found.items()
        }

    def _draws(
        self,
        model: LatentVariableModel,
        objective: Objective,
        x: Tensor,
        parts: Mapping[str, Sequence[nn.Module]],
        first: int,
    ) -> dict[str, Tensor]:
        """Gradients [R, D] of each part's parameters; `first` is the number of the first draw."""
        parameters = {
            name: [each for module in modules for each in module.parameters() if each.requires_grad]
            for name, modules in parts.items()
        }
        every = list(itertools.chain(*parameters.values()))
        stream, rows = open_stream(), list[Tensor]()
        for number in range(first, first + self.num_draws):
            step = stream and Stream(stream.seed, TRAINING, number)
            with torch.enable_grad():
                found, _ = training.gradients(model, objective, every, x, "mean", step)
            pairs = zip(found, every, strict=True)
            rows.append(torch.cat([(p.new_zeros(p.shape) if g is None else g).flatten() for g, p in pairs]))
        sizes = [sum(map(Tensor.numel, each)) for each in parameters.values()]
        return dict(zip(parameters, torch.stack(rows).split(sizes, 1), strict=True))
