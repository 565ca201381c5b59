"""A density that is not that of what is drawn ends before training, in whatever way it is wrong."""

from collections.abc import Callable
from typing import Any, NamedTuple

import own_models
import problems
import pytest
import torch
from torch import Tensor, nn

from evidence.distributions import Chain, DiagonalNormal
from evidence.errors import UserError
from evidence.models import LatentVariableModel
from evidence.objectives import ELBO, IWAE
from evidence.trial.densities import check_densities

Pair = tuple[Tensor, Tensor]
Methods = dict[str, Callable[..., Any] | None]


class Mapped(NamedTuple):
    """The distribution of mapped(u), u ~ N(mean, scale^2); its log density is the base's less `log_det`."""

    base: DiagonalNormal
    mapped: Callable[[Tensor], Pair]

    def noise(self, num_samples: int) -> Tensor:
        return self.base.noise(num_samples)

    def rsample(self, noise: Tensor) -> Tensor:
        return self.rsample_and_log_prob(noise)[0]

    def rsample_and_log_prob(self, noise: Tensor) -> Pair:
        u, log_q = self.base.rsample_and_log_prob(noise)
        z, log_det = self.mapped(u)
        return z, log_q - log_det

    def expectation(self, num_samples: int) -> Tensor:
        return self.rsample(self.noise(num_samples)).mean(0)


class Planar(nn.Module):
    """z = u + a tanh(w.u + b): log |det| = log |1 + a.w (1 - tanh^2)|, which is zero at first, as a is."""

    def __init__(self, then: nn.Module, is_right: bool) -> None:
        super().__init__()
        self.then, self.is_right = then, is_right
        self.a, self.w = nn.Parameter(torch.zeros(problems.Z_DIM)), nn.Parameter(torch.ones(problems.Z_DIM))

    def mapped(self, u: Tensor) -> Pair:
        h = torch.tanh(u @ self.w)
        log_det = (1 + (self.a @ self.w) * (1 - h.square())).abs().log()
        return u + self.a * h.unsqueeze(-1), log_det if self.is_right else 0 * log_det

    def forward(self, x: Tensor) -> Mapped:
        return Mapped(self.then(x), self.mapped)


class Changed(nn.Module):
    """A part whose distribution has some methods replaced, each of which is given the right one."""

    def __init__(self, then: nn.Module, **methods: Callable[..., Any] | None) -> None:
        super().__init__()
        self.then, self.methods = then, methods

    def forward(self, *args: Tensor) -> object:
        right = self.then(*args)
        return _Replaced(right, self.methods)


class _Replaced:
    def __init__(self, right: Any, methods: Methods) -> None:
        self._right, self._methods = right, methods

    def __getattr__(self, name: str) -> Any:
        right = getattr(self._right, name)
        if name not in self._methods:
            return right
        wrong = self._methods[name]
        if wrong is None:
            raise AttributeError(name)
        return lambda *args: wrong(right, *args)


class Squashed(nn.Module):
    """z = tanh(3 u) without its log determinant. Many z are so near to 1 that their derivative is lost."""

    def __init__(self, then: nn.Module) -> None:
        super().__init__()
        self.then = then

    def forward(self, x: Tensor) -> Mapped:
        return Mapped(self.then(x), lambda u: (torch.tanh(3 * u), torch.zeros_like(u[..., 0])))


def alike(right: Callable[[int], Tensor], count: int) -> Tensor:
    """The same number in each unit."""
    return torch.randn(count, 1).expand(right(count).shape)


def of_pair(change: Callable[[Tensor, Tensor], Tensor]) -> Methods:
    """rsample_and_log_prob with log q changed, a function of it and the noise, and no log_prob."""

    def changed(right: Callable[[Tensor], Pair], noise: Tensor) -> Pair:
        z, log_q = right(noise)
        return z, change(log_q, noise)

    return {"rsample_and_log_prob": changed, "log_prob": None}


def laplace(right: Callable[[int], Tensor], count: int) -> Tensor:
    """Of variance 1."""
    return torch.distributions.Laplace(0.0, 0.5**0.5).sample(right(count).shape)


def uniform(right: Callable[[int], Tensor], count: int) -> Tensor:
    """Of variance 1."""
    return (torch.rand_like(right(count)) - 0.5) * 12**0.5


WRONG: list[tuple[str, Callable[[nn.Module], nn.Module], str]] = [
    ("posterior", lambda part: Planar(part, False), "log q(z | x) is"),
    ("posterior", lambda part: Changed(part, **of_pair(lambda log_q, _: log_q + 1.8379)), "log q(z | x) is"),
    ("posterior", lambda part: Changed(part, **of_pair(lambda log_q, _: -log_q)), "log q(z | x) is"),
    ("posterior", lambda part: Changed(part, **of_pair(lambda _, eps: eps.sum(-1))), "log q(z | x) is"),
    ("posterior", lambda part: Squashed(part), "log q(z | x) is"),
    ("prior", lambda part: Changed(part, noise=alike), "noise is not standard normal"),
    ("posterior", lambda part: Changed(part, noise=laplace), "noise is not standard normal"),
    (
        "posterior",
        lambda part: Changed(part, noise=lambda right, count: 1.3 * right(count)),
        "standard normal",
    ),
    ("prior", lambda part: Changed(part, noise=uniform), "noise is not standard normal"),
    ("prior", lambda part: Changed(part, log_prob=lambda right, z: right(z) + 1), "log p(z) is"),
    ("prior", lambda part: Changed(part, rsample=lambda right, noise: 2 * right(noise)), "log p(z) is"),
    ("likelihood", lambda part: Changed(part, log_prob=lambda right, x: -right(x)), "log p(x | z) is"),
]


@pytest.mark.parametrize(("name", "change", "said"), WRONG)
def test_a_wrong_density_is_told_before_training(
    name: str, change: Callable[[nn.Module], nn.Module], said: str
) -> None:
    model = problems.linear_gaussian()
    setattr(model, name, change(getattr(model, name)))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(UserError) as raised:
        own_models.tried(model, ELBO(1))
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def straight_through(u: Tensor) -> Pair:
    """0 or 1, with the derivative of a sigmoid. The log probability is not that of a density."""
    soft = torch.sigmoid(u)
    return (u > 0).to(u.dtype) + soft - soft.detach(), torch.zeros_like(u[..., 0])


class Posterior(nn.Module):
    """One of another form than those of the package."""

    def __init__(self, then: nn.Module, form: str) -> None:
        super().__init__()
        self.then, self.form = then, form

    def forward(self, x: Tensor) -> Any:
        base = self.then(x)
        if self.form == "chain":
            first = DiagonalNormal(base.mean[..., :1], base.scale[..., :1])
            return Chain(first, [lambda h: DiagonalNormal(1 + h.sin(), 0.1 + h.square())], [1, 1])
        maps: dict[str, Callable[[Tensor], Pair]] = {
            "cubic": lambda u: (u + u**3, (1 + 3 * u.square()).log().sum(-1)),
            "narrow": lambda u: (1e-4 * u, torch.full_like(u[..., 0], 2 * torch.tensor(1e-4).log())),
            "straight-through": straight_through,
            "constant": lambda u: (torch.zeros_like(u), torch.zeros_like(u[..., 0])),
        }
        return Mapped(base, maps[self.form])


@pytest.mark.parametrize("form", ["cubic", "chain", "narrow", "straight-through", "constant"])
def test_a_right_density_of_any_form_is_taken(form: str) -> None:
    model = problems.linear_gaussian()
    model.posterior = Posterior(model.posterior, form)
    check_densities(model, problems.images(3))


class MixturePrior(nn.Module):
    """Three normal distributions, of which a draw chooses one at random."""

    def __init__(self) -> None:
        super().__init__()
        self.means = nn.Parameter(torch.randn(3, problems.Z_DIM))

    def forward(self) -> Any:
        return Mixture(self.means)


class Mixture(NamedTuple):
    means: Tensor

    def noise(self, num_samples: int) -> Tensor:
        return torch.randn(num_samples, problems.Z_DIM)

    def rsample(self, noise: Tensor) -> Tensor:
        return self.means[torch.randint(3, noise.shape[:-1])] + noise

    def log_prob(self, z: Tensor) -> Tensor:
        each = DiagonalNormal(self.means, torch.ones_like(self.means)).log_prob(z.unsqueeze(-2))
        return each.logsumexp(-1) - torch.tensor(3.0).log()


def test_a_mixture_prior_is_taken() -> None:
    model = problems.linear_gaussian()
    model.prior = MixturePrior()
    own_models.tried(model, ELBO(1))


class Stratified(nn.Module):
    """q is a mixture of two, and sample k is drawn from component k mod 2."""

    def __init__(self, then: nn.Module) -> None:
        super().__init__()
        self.then = then

    def forward(self, x: Tensor) -> Any:
        base = self.then(x)

        def drawn(right: Callable[[Tensor], Tensor], noise: Tensor) -> Tensor:
            return right(noise) + 3.0 * (torch.arange(len(noise)) % 2)[:, None, None]

        def pair(right: Callable[[Tensor], Pair], noise: Tensor) -> Pair:
            z = drawn(base.rsample, noise)
            both = torch.stack([base.log_prob(z), base.log_prob(z - 3.0)])
            return z, both.logsumexp(0) - torch.tensor(2.0).log()

        return _Replaced(base, {"rsample": drawn, "rsample_and_log_prob": pair, "log_prob": None})


class Refusing(nn.Module):
    """A prior that refuses a scale that is not positive. Its scale is small."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((problems.Z_DIM,), 0.01))

    def forward(self) -> DiagonalNormal:
        if not (self.scale > 0).all():
            raise ValueError("scale must be positive")
        return DiagonalNormal(torch.zeros(problems.Z_DIM), self.scale)


class Flat(nn.Module):
    """A likelihood that flattens z by `view`, as convolutional decoders do."""

    def __init__(self, then: nn.Module) -> None:
        super().__init__()
        self.then = then

    def forward(self, z: Tensor) -> object:
        return self.then(z.view(-1, z.shape[-1]).view(z.shape))


def without_constants(model: LatentVariableModel) -> None:
    """Both leave out D/2 log 2 pi, which log w has not."""
    model.prior = Changed(model.prior, log_prob=lambda right, z: right(z) + 1.8379)
    model.posterior = Changed(model.posterior, **of_pair(lambda log_q, _: log_q + 1.8379))


RIGHT: dict[str, Callable[[LatentVariableModel], None]] = {
    "stratified": lambda model: setattr(model, "posterior", Stratified(model.posterior)),
    "refusing": lambda model: setattr(model, "prior", Refusing()),
    "view": lambda model: setattr(model, "likelihood", Flat(model.likelihood)),
    "constants": without_constants,
}


@pytest.mark.parametrize("case", RIGHT)
def test_a_right_model_of_any_kind_is_taken(case: str) -> None:
    model = problems.linear_gaussian()
    RIGHT[case](model)
    check_densities(model, problems.images(3))


@pytest.mark.usefixtures("float64")  # which sets it back
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_planar_flow_is_tried_and_trained(dtype: torch.dtype) -> None:
    model: LatentVariableModel = problems.linear_gaussian()
    model.posterior = Planar(model.posterior, True)
    torch.set_default_dtype(dtype)
    own_models.tried(model.to(dtype), IWAE(3))
