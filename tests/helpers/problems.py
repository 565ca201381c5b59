"""Models whose exact answers are known, in float64, and the means to hold an estimate against them."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from evidence.distributions import DiagonalNormal, SemiImplicit
from evidence.models import LatentVariableModel
from evidence.networks import StandardNormalPrior
from evidence.objectives import Estimate, Objective
from evidence.objectives.reverse_conditional import ReverseSamples

X_DIM, Z_DIM, NOISE_DIM = 4, 2, 3
NOISE_SCALE = 0.7  # of x given z


class LinearLikelihood(nn.Module):
    """x | z ~ N(W z + b, s^2 I)."""

    def __init__(self) -> None:
        super().__init__()
        orthogonal = torch.linalg.qr(torch.randn(X_DIM, Z_DIM))[0]
        self.weight = nn.Parameter((orthogonal * torch.tensor([1.5, 0.8])).contiguous())
        self.bias = nn.Parameter(0.3 * torch.randn(X_DIM))

    def forward(self, z: Tensor) -> DiagonalNormal:
        return DiagonalNormal(z @ self.weight.T + self.bias, z.new_full((X_DIM,), NOISE_SCALE))


class LinearPosterior(nn.Module):
    """z | x ~ N(A x + c, diag(exp(2 r)))."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(0.3 * torch.randn(Z_DIM, X_DIM))
        self.bias = nn.Parameter(0.2 * torch.randn(Z_DIM))
        self.log_scale = nn.Parameter(torch.full((Z_DIM,), -0.6))

    def forward(self, x: Tensor) -> DiagonalNormal:
        mean = x @ self.weight.T + self.bias
        return DiagonalNormal(mean, self.log_scale.exp().expand_as(mean))


class LinearSemiImplicitPosterior(nn.Module):
    """z = A x + M eps + sigma u: q(z | x) = N(A x, M M' + sigma^2 I) exactly."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(0.3 * torch.randn(Z_DIM, X_DIM))
        self.mixing = nn.Parameter(0.5 * torch.randn(Z_DIM, NOISE_DIM))
        self.log_scale = nn.Parameter(torch.tensor([-0.9, -1.2]))

    def forward(self, x: Tensor) -> SemiImplicit:
        part_x = x @ self.weight.T
        scale = self.log_scale.exp()
        return SemiImplicit(lambda eps: part_x + eps @ self.mixing.T, scale, x.shape[0], NOISE_DIM)

    def covariance(self) -> Tensor:
        return self.mixing @ self.mixing.T + torch.diag((2 * self.log_scale).exp())


class ExactReverseConditional:
    """q(eps | z, x) of LinearSemiImplicitPosterior: independent draws from a Gaussian."""

    def __init__(self, posterior: LinearSemiImplicitPosterior, num_samples: int = 5) -> None:
        self.posterior, self.num_samples = posterior, num_samples

    def __call__(self, q: SemiImplicit, z: Tensor, eps: Tensor, x: Tensor) -> ReverseSamples:
        with torch.no_grad():
            whitened = self.posterior.mixing / q.scale.unsqueeze(-1)
            covariance = torch.linalg.inv(torch.eye(NOISE_DIM) + whitened.T @ whitened)
            offset = (z - q.mean(torch.zeros_like(eps))) / q.scale
            gaussian = MultivariateNormal(offset @ whitened @ covariance, covariance)
            return ReverseSamples(gaussian.sample((self.num_samples,)), {})


def linear_gaussian() -> LatentVariableModel:
    """A diagonal posterior, not the exact one."""
    torch.manual_seed(7)
    return LatentVariableModel(StandardNormalPrior(Z_DIM), LinearLikelihood(), LinearPosterior(), [Z_DIM])


def with_exact_posterior() -> LatentVariableModel:
    """W has orthogonal columns, so the exact posterior is diagonal: this one."""
    model = linear_gaussian()
    with torch.no_grad():
        weight, bias = model.likelihood.weight, model.likelihood.bias
        precision = 1 + weight.square().sum(0) / NOISE_SCALE**2
        model.posterior.weight.copy_((weight / NOISE_SCALE**2 / precision).T)
        model.posterior.bias.copy_(-model.posterior.weight @ bias)
        model.posterior.log_scale.copy_(-0.5 * precision.log())
    return model


def semi_implicit_gaussian() -> LatentVariableModel:
    """A semi-implicit posterior whose marginal is Gaussian."""
    torch.manual_seed(7)
    posterior = LinearSemiImplicitPosterior()
    return LatentVariableModel(StandardNormalPrior(Z_DIM), LinearLikelihood(), posterior, [Z_DIM])


def fitting_semi_implicit_gaussian() -> LatentVariableModel:
    """The same with q(z | x) centred on the exact posterior and wider, so that weights are bounded."""
    model, exact = semi_implicit_gaussian(), with_exact_posterior()
    with torch.no_grad():
        model.likelihood.load_state_dict(exact.likelihood.state_dict())
        model.likelihood.bias.zero_()
        model.posterior.weight.copy_(exact.posterior.weight)
        model.posterior.mixing.copy_(torch.tensor([[0.5, 0.1, 0.0], [0.0, 0.6, 0.3]]))
        model.posterior.log_scale.copy_(torch.tensor([0.35, 0.45]).log())
    return model


def images(count: int) -> Tensor:
    """Data drawn from no model in particular."""
    return torch.randn(count, X_DIM, generator=torch.Generator().manual_seed(11)) * 1.3


def exact_log_evidence(model: LatentVariableModel, x: Tensor) -> Tensor:
    """log N(x; b, W W' + s^2 I), [B]."""
    weight = model.likelihood.weight
    covariance = weight @ weight.T + NOISE_SCALE**2 * torch.eye(X_DIM)
    return MultivariateNormal(model.likelihood.bias, covariance).log_prob(x)


def exact_elbo(model: LatentVariableModel, x: Tensor) -> Tensor:
    """log p(x) - KL(q(z | x) || p(z | x)) with both Gaussian, [B]; differentiable in every parameter."""
    weight, bias = model.likelihood.weight, model.likelihood.bias
    precision = torch.eye(Z_DIM) + weight.T @ weight / NOISE_SCALE**2
    true_covariance = torch.linalg.inv(precision)
    true_mean = (x - bias) @ weight / NOISE_SCALE**2 @ true_covariance
    posterior = model.posterior
    mean = x @ posterior.weight.T
    if isinstance(posterior, LinearSemiImplicitPosterior):
        covariance = posterior.covariance()
    else:
        mean, covariance = mean + posterior.bias, torch.diag((2 * posterior.log_scale).exp())
    kl = torch.distributions.kl_divergence(
        MultivariateNormal(mean, covariance), MultivariateNormal(true_mean, true_covariance)
    )
    return exact_log_evidence(model, x) - kl


def gradients(value: Tensor, module: nn.Module) -> dict[str, Tensor]:
    """d value / d parameter, zero where there is no path."""
    named = dict(module.named_parameters())
    found = torch.autograd.grad(value, list(named.values()), allow_unused=True)
    pairs = zip(named.items(), found, strict=True)
    return {name: torch.zeros_like(p) if g is None else g for (name, p), g in pairs}


def gradient_draws(estimate: Callable[[], Estimate], module: nn.Module, repeats: int) -> dict[str, Tensor]:
    """Independent draws [repeats, ...] of the gradient of the batch-mean surrogate."""
    draws = [gradients(estimate().surrogate.mean(), module) for _ in range(repeats)]
    return {name: torch.stack([draw[name] for draw in draws]) for name in draws[0]}


def deviation(draws: Tensor, exact: Tensor) -> float:
    """The largest |mean - exact| over the entries, in standard errors of the mean."""
    error = draws.std(0) / draws.shape[0] ** 0.5
    return float(((draws.mean(0) - exact).abs() / error.clamp(min=1e-12)).max())


def assert_differentiable(model: LatentVariableModel, objective: Objective, x: Tensor) -> None:
    """With its noise held fixed, the surrogate's gradient is its central difference in every parameter."""

    def value() -> Tensor:
        torch.manual_seed(13)
        return objective(model, x).surrogate.sum()

    found = gradients(value(), model)
    step = 1e-5
    for name, parameter in model.named_parameters():
        for index in range(parameter.numel()):
            entry = parameter.data.view(-1)
            kept = entry[index].item()
            entry[index] = kept + step
            above = value().detach()
            entry[index] = kept - step
            below = value().detach()
            entry[index] = kept
            difference = (above - below) / (2 * step)
            torch.testing.assert_close(found[name].flatten()[index], difference, rtol=1e-6, atol=1e-7)
