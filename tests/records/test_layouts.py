"""Gradients, moments and parameters in any memory layout: a step is that of torch's plain optimisers, to rounding."""

import itertools
from collections.abc import Callable, Iterator, Sequence

import problems
import pytest
import torch
from torch import Tensor, nn

from evidence import training
from evidence.errors import UserError
from evidence.models import LatentVariableModel
from evidence.networks import StandardNormalPrior
from evidence.objectives import ELBO, Estimate, Objective
from evidence.training import Segment, carry_over, parameter_groups, train

pytestmark = pytest.mark.usefixtures("float64")

SHAPE = (4, 1, 3)
STEPS = 6
Layout = Callable[[Tensor], Tensor]


def sliced(values: Tensor) -> Tensor:
    """Every other number of twice as many."""
    return torch.stack([values, torch.full_like(values, 7.0)], -1)[..., 0]


DENSE: dict[str, Layout] = {
    "in order": lambda values: values.clone(),
    "turned": lambda values: values.permute(2, 1, 0).contiguous().permute(2, 1, 0),
    "one at any stride": lambda values: torch.empty_strided(SHAPE, (3, 77, 1)).copy_(values),
    "one turned": lambda values: torch.empty_strided(SHAPE, (1, 5, 4)).copy_(values),
}
GRADIENTS: dict[str, Layout] = DENSE | {"sliced": sliced, "expanded": lambda values: values[:1].expand(SHAPE)}
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "fused Adam": lambda groups, is_plain: torch.optim.Adam(
        groups, **plain_or_fused(is_plain), betas=(0.8, 0.9), amsgrad=True
    ),
    "fused SGD": lambda groups, is_plain: torch.optim.SGD(groups, **plain_or_fused(is_plain), momentum=0.9),
    "fused Adagrad": lambda groups, is_plain: torch.optim.Adagrad(groups, **plain_or_fused(is_plain)),
    "RMSprop": lambda groups, is_plain: torch.optim.RMSprop(groups, lr=0.1, momentum=0.5, centered=True),
}


def plain_or_fused(is_plain: bool) -> dict[str, object]:
    return {"lr": 0.1} | ({"foreach": False} if is_plain else {"fused": True})


class Holding(Objective):
    """Has a parameter of a shape with a one in it."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, model: LatentVariableModel, x: Tensor) -> None:  # type: ignore[override]
        raise AssertionError("the gradients are given")


def nowhere() -> Iterator[Tensor]:
    return itertools.repeat(torch.empty(0))


def trained(optimizer: str, layout: Layout, gradients: Sequence[Tensor], is_plain: bool = False) -> Tensor:
    """The parameter after steps along the gradients, from numbers in the layout."""
    objective = Holding(layout(torch.arange(12.0).view(SHAPE)))
    model = nn.Module()
    groups = parameter_groups(model, objective, 1.0)  # type: ignore[arg-type]
    left = iter(gradients)

    def differentiate(*_: object, **__: object) -> tuple[tuple[Tensor], dict[str, Tensor]]:
        return (next(left),), {"elbo": torch.tensor(0.0)}

    schedule = [Segment(len(gradients), 0.1)]
    made = OPTIMIZERS[optimizer](groups, is_plain)
    list(train(model, objective, made, nowhere(), schedule, "sum", 1, 0, differentiate))  # type: ignore[arg-type]
    return objective.weight.detach()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("parameter", DENSE)
def test_a_step_does_not_depend_on_how_numbers_lie_in_memory(
    parameter: str, gradient: str, optimizer: str
) -> None:
    given = [GRADIENTS[gradient](torch.randn(SHAPE)) for _ in range(STEPS)]
    expected = trained(optimizer, DENSE["in order"], [each.contiguous() for each in given], is_plain=True)
    found = trained(optimizer, DENSE[parameter], given)
    assert found.stride() == DENSE[parameter](torch.zeros(SHAPE)).stride()
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-14)


class Einsum(nn.Module):
    """A decoder whose gradients torch.einsum lays out as it likes."""

    def __init__(self) -> None:
        super().__init__()
        made = problems.LinearLikelihood()
        self.weight, self.bias = nn.Parameter(made.weight.detach().clone()), made.bias
        self.scale = torch.tensor(problems.NOISE_SCALE).expand(problems.X_DIM)

    def forward(self, z: Tensor) -> problems.DiagonalNormal:
        return problems.DiagonalNormal(torch.einsum("...d,hd->...h", z, self.weight) + self.bias, self.scale)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_an_einsum_decoder_is_trained_as_by_the_plain_optimizer(reduction: str) -> None:
    def parameters(**options: bool) -> list[Tensor]:
        torch.manual_seed(3)
        posterior = problems.LinearPosterior()
        model = LatentVariableModel(
            StandardNormalPrior(problems.Z_DIM), Einsum(), posterior, [problems.Z_DIM]
        )
        optimizer = torch.optim.Adam(parameter_groups(model, ELBO(2), 1.0), **options)  # type: ignore[arg-type]
        batches = itertools.repeat(problems.images(6))
        list(train(model, ELBO(2), optimizer, batches, [Segment(50, 0.01)], reduction, 50))  # type: ignore[arg-type]
        return list(model.parameters())

    for fused, plain in zip(parameters(fused=True), parameters(foreach=False), strict=True):
        torch.testing.assert_close(fused, plain, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("foreach", [True, False])
def test_parameters_with_the_same_gradient_do_not_share_its_memory(foreach: bool) -> None:
    """Nesterov's momentum is added in the gradient's memory; the second half of `first` has the gradient of `part`."""

    class Sums(Objective):
        def __init__(self) -> None:
            super().__init__()
            for name, size in (("first", 4), ("second", 4), ("part", 2)):
                self.register_parameter(name, nn.Parameter(torch.ones(size)))

        def forward(self, model: LatentVariableModel, x: Tensor) -> Estimate:
            total = self.first + self.second + torch.cat([torch.zeros(2), self.part])
            return Estimate(-total.sin().sum().expand(len(x)), {"elbo": torch.tensor(0.0)})

    objective = Sums()
    optimizer = torch.optim.SGD(
        parameter_groups(nn.Module(), objective, 1.0),  # type: ignore[arg-type]
        momentum=0.9,
        nesterov=True,
        foreach=foreach,
    )
    batches = itertools.repeat(torch.empty(1))
    list(train(nn.Module(), objective, optimizer, batches, [Segment(3, 0.1)], "sum", 3))  # type: ignore[arg-type]
    first, part, momentum = torch.ones(4), torch.ones(2), torch.zeros(4)
    for _ in range(3):
        gradient = torch.cos(2 * first + torch.cat([torch.zeros(2), part]))
        momentum = 0.9 * momentum + gradient
        first = first - 0.1 * (gradient + 0.9 * momentum)
        part = part - 0.1 * (gradient + 0.9 * momentum)[2:]
    torch.testing.assert_close(objective.first.detach(), first)
    torch.testing.assert_close(objective.second.detach(), first)
    torch.testing.assert_close(objective.part.detach(), part)


@pytest.mark.parametrize(
    "loose", [sliced, lambda values: values[:1].expand(SHAPE)], ids=["sliced", "expanded"]
)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_parameter_with_gaps_or_overlaps_is_refused_by_name(loose: Layout, optimizer: str) -> None:
    with pytest.raises(
        UserError, match=r"^objective\.weight: not laid out densely .* with \.contiguous\(\)$"
    ):
        trained(optimizer, loose, [torch.randn(SHAPE)])
    model = problems.linear_gaussian()
    model.likelihood.weight = nn.Parameter(sliced(model.likelihood.weight.detach()))
    with pytest.raises(UserError, match=r"^model\.likelihood\.weight: "):
        training.check_layouts(model, ELBO(1))
    model.likelihood.weight.requires_grad_(False)
    training.check_layouts(model, ELBO(1))


def test_two_parameters_in_the_same_memory_are_refused_by_name() -> None:
    """A transposed view is one parameter's memory on a CPU, and a copy of it once it is moved to a GPU."""
    model = problems.linear_gaussian()
    flat = torch.zeros(problems.X_DIM * problems.Z_DIM + problems.X_DIM)
    model.likelihood.weight = nn.Parameter(flat[: -problems.X_DIM].view(problems.X_DIM, problems.Z_DIM))
    model.likelihood.bias = nn.Parameter(flat[-problems.X_DIM :])
    training.check_layouts(
        model, ELBO(1)
    )  # beside each other, as torch's recurrent networks have them on a GPU
    model.posterior.weight = nn.Parameter(model.likelihood.weight.detach().T)
    with pytest.raises(UserError, match=r"^model\.\w+\.weight and model\.\w+\.weight share memory"):
        training.check_layouts(model, ELBO(1))
    model.posterior.weight = model.likelihood.weight  # one parameter under two names
    training.check_layouts(model, ELBO(1))


@pytest.mark.parametrize("way", ["a checkpoint", "another run"])
@pytest.mark.parametrize("optimizer", ["fused Adam", "RMSprop"])
def test_moments_that_come_in_another_layout_are_those_of_their_parameters(optimizer: str, way: str) -> None:
    """A run of 2 + 3 steps, whose state lies in memory as that of the transposed parameter did."""

    def after(
        count: int, begun: dict[str, object] | None, is_plain: bool
    ) -> tuple[Tensor, dict[str, object]]:
        model, objective = problems.linear_gaussian(), ELBO(1)
        made = OPTIMIZERS[optimizer](parameter_groups(model, objective, 1.0), is_plain)
        if begun is not None and way == "another run":
            carry_over(model, made, begun)  # type: ignore[arg-type]
        elif begun is not None:
            model.load_state_dict(begun["model"])  # type: ignore[arg-type]
            made.load_state_dict(begun["optimizer"])  # type: ignore[arg-type]
        batches = itertools.repeat(problems.images(6))
        torch.manual_seed(count)
        list(train(model, objective, made, batches, [Segment(count, 0.1)], "sum", 1))
        return model.likelihood.weight.detach(), {"model": model.state_dict(), "optimizer": made.state_dict()}

    _, plain = after(2, None, True)
    _, begun = after(2, None, False)
    for state in begun["optimizer"]["state"].values():  # type: ignore[index]
        for name, value in state.items():
            if value.dim() == 2:
                state[name] = value.T.contiguous().T
    torch.testing.assert_close(after(3, begun, False)[0], after(3, plain, True)[0], rtol=1e-12, atol=1e-13)


def test_a_sparse_gradient_is_left_to_the_optimizer() -> None:
    class Looking(Objective):
        """Adds a number from a table that depends on nothing."""

        def __init__(self, is_sparse: bool) -> None:
            super().__init__()
            self.table = nn.Embedding(5, 2, sparse=is_sparse)
            nn.init.ones_(self.table.weight)

        def forward(self, model: LatentVariableModel, x: Tensor) -> Estimate:
            return ELBO(1)(model, x)._replace(surrogate=-self.table(torch.tensor([3, 1])).square().sum(1))

    def table(make: type[torch.optim.Optimizer], is_sparse: bool) -> Tensor:
        model, objective = problems.linear_gaussian(), Looking(is_sparse)
        optimizer = make(parameter_groups(model, objective, 1.0), lr=0.1)  # type: ignore[call-arg]
        list(
            train(
                model, objective, optimizer, itertools.repeat(problems.images(2)), [Segment(2, 0.1)], "sum", 1
            )
        )
        return objective.table.weight.detach()

    torch.testing.assert_close(table(torch.optim.SGD, True), table(torch.optim.SGD, False))
    with pytest.raises(RuntimeError, match="Adam does not support sparse gradients"):
        table(torch.optim.Adam, True)
