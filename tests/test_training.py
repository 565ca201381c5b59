"""Schedules, reductions, the optimisers' formulas, divergence, and exact resume."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import problems
import pytest
import torch
from equality import assert_equal
from torch import Tensor

from evidence import parts
from evidence.errors import UserError
from evidence.evaluation import Evaluators, ImportanceSampling, SemiImplicitSampling, evaluate
from evidence.models import LatentVariableModel
from evidence.networks import Critic, SemiImplicitPosterior
from evidence.objectives import ELBO, IWAE, SIVI, UIVI, CriticWeighted, Objective
from evidence.objectives.reverse_conditional import HMCSampler
from evidence.records import checkpoints
from evidence.records.damage import Damaged
from evidence.training import Segment, decayed_schedule, parameter_groups, staged_schedule, train

CPU = torch.device("cpu")


def stream(first_step: int = 0) -> Iterator[Tensor]:
    """Any deterministic function of the step."""
    for step in itertools.count(first_step):
        yield torch.randn(6, problems.X_DIM, generator=torch.Generator().manual_seed(step))


def adam(model: LatentVariableModel, objective: Objective, **options: float) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameter_groups(model, objective, 0.2), **{"eps": 1e-4, **options})  # type: ignore[arg-type]


def test_the_papers_schedule_takes_3280_passes_in_eight_stages() -> None:
    schedule = staged_schedule(8, 2980, 1e-3)
    assert schedule[-1].last_step == 3280 * 2980 == 9_774_400
    passes = [segment.last_step // 2980 for segment in schedule]
    assert [b - a for a, b in zip([0, *passes], passes, strict=False)] == [3**i for i in range(8)]
    rates = [segment.learning_rate * 1e3 for segment in schedule]
    assert rates == pytest.approx(
        [1, 0.72, 0.52, 0.37, 0.27, 0.19, 0.14, 0.1], abs=0.005
    )  # the authors' code
    assert staged_schedule(3, 2980, 1e-3) == schedule[:3]


def test_uivis_schedule_multiplies_every_so_many_steps() -> None:
    schedule = decayed_schedule(400_000, 1e-3, 0.9, 15_000)
    assert schedule[0] == Segment(15_000, 1e-3)
    assert schedule[1] == Segment(30_000, pytest.approx(9e-4))
    assert schedule[-1] == Segment(400_000, pytest.approx(1e-3 * 0.9**26))
    assert decayed_schedule(7, 0.1, 1.0, 7) == [Segment(7, 0.1)]


def test_each_step_uses_its_segments_rate_and_reports_average_the_steps_between() -> None:
    model, objective = problems.linear_gaussian(), ELBO(1)
    optimizer = adam(model, objective)
    schedule = [Segment(5, 1e-3), Segment(7, 5e-4)]
    reports, rates = [], []
    for report in train(model, objective, optimizer, stream(), schedule, "sum", 2, seed=21):
        reports.append((report.step, report.ends_segment))
        rates.append(optimizer.param_groups[0]["lr"])
    assert reports == [(2, False), (4, False), (5, True), (6, False), (7, True)]
    assert rates == [1e-3] * 3 + [5e-4] * 2

    def metrics(log_every: int) -> list[float]:
        torch.manual_seed(0)
        model = problems.linear_gaussian()
        optimizer = adam(model, objective)
        found = train(model, objective, optimizer, stream(), [Segment(6, 1e-3)], "sum", log_every)
        return [report.metrics["elbo"] for report in found]

    each = metrics(1)
    assert metrics(3) == pytest.approx([sum(each[:3]) / 3, sum(each[3:]) / 3])


@pytest.mark.usefixtures("float64")
def test_sum_with_eps_is_mean_with_eps_over_the_batch() -> None:
    """Adam's step g / (sqrt(v) + eps) with g six times larger is that of g with eps / 6."""

    def trained(reduction: str, eps: float) -> list[Tensor]:
        model, objective = problems.linear_gaussian(), ELBO(2)
        torch.manual_seed(0)
        optimizer = adam(model, objective, eps=eps)
        for _ in train(model, objective, optimizer, stream(), [Segment(50, 1e-2)], reduction, 50):  # type: ignore[arg-type]
            pass
        return list(model.parameters())

    for ours, theirs in zip(trained("sum", 0.6), trained("mean", 0.1), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
    different = zip(trained("sum", 0.6), trained("mean", 0.6), strict=True)
    assert all((a - b).abs().max() > 1e-4 for a, b in different)


@pytest.mark.usefixtures("float64")
def test_uivis_rmsprop_is_the_authors_formula() -> None:
    """lr g / (1 + sqrt(G)) with G = 0.9 G + 0.1 g^2, ascending."""
    parameter = torch.nn.Parameter(torch.tensor([0.3, -2.0]))
    optimizer = torch.optim.RMSprop([parameter], lr=0.05, alpha=0.9, eps=1.0)
    expected, average = parameter.detach().clone(), torch.zeros(2)
    for _ in range(5):
        gradient = torch.cos(expected)
        average = 0.9 * average + 0.1 * gradient**2
        expected = expected + 0.05 * gradient / (1 + average.sqrt())
        optimizer.zero_grad()
        (-torch.sin(parameter)).sum().backward()
        optimizer.step()
    torch.testing.assert_close(parameter.detach(), expected)


def test_sigma_alone_has_its_own_rate() -> None:
    posterior = SemiImplicitPosterior(4, 2, [5], 2, "relu", 0.5, 1e-5)
    model = problems.semi_implicit_gaussian()
    model.posterior = posterior
    groups = parameter_groups(model, ELBO(1), 0.2)
    assert [(group["rate"], len(group["params"])) for group in groups] == [(1.0, 6), (0.2, 1)]
    ((name, scale),) = groups[1]["params"]
    assert name == "model.posterior.scale"
    assert scale is posterior.scale
    optimizer = torch.optim.Adam(groups)  # type: ignore[arg-type]
    batches = (torch.randn(3, 4) for _ in itertools.count())
    next(train(model, SIVI(1, 2), optimizer, batches, [Segment(1, 1e-3)], "sum", 1))
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([1e-3, 2e-4])
    assert len(parameter_groups(problems.linear_gaussian(), ELBO(1), 0.2)) == 1
    critic = CriticWeighted(1, "path", "evidence", 3.0, 0, Critic(4, [3], "tanh"))
    assert len(parameter_groups(problems.linear_gaussian(), critic, 1.0)[0]["params"]) == 5 + 4


def test_a_parameter_that_is_frozen_or_plays_no_part_stays_as_it_is() -> None:
    model, objective = problems.linear_gaussian(), ELBO(1)
    objective.spare = torch.nn.Parameter(torch.ones(2))
    model.likelihood.bias.requires_grad_(False)
    before = {name: value.clone() for name, value in model.named_parameters()}
    list(train(model, objective, adam(model, objective), stream(), [Segment(3, 1e-2)], "sum", 3))
    moved = {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    assert moved == before.keys() - {"likelihood.bias"}
    assert torch.equal(objective.spare.detach(), torch.ones(2))


def test_a_metric_that_stops_being_finite_ends_training_by_name_and_step() -> None:
    model, objective = problems.linear_gaussian(), ELBO(1)
    reports = train(model, objective, adam(model, objective), stream(), [Segment(9, 1e-3)], "sum", 3)
    next(reports)
    with torch.no_grad():
        model.likelihood.weight.fill_(torch.nan)
    with pytest.raises(UserError, match=r"elbo is nan in the 3 steps before step 6"):
        next(reports)


EVALUATORS = Evaluators(ImportanceSampling(3, 100), SemiImplicitSampling(3, 3, 100))
OBJECTIVES = {
    "vae": lambda: ELBO(2),
    "iwae": lambda: IWAE(4, 1),
    "critic": lambda: CriticWeighted(2, "elbo", "evidence", 3.0, 4, Critic(problems.X_DIM, [3], "tanh")),
    "uivi": lambda: UIVI(1, HMCSampler(2, 2, 3, 0.1, 0.9, 0.05)),
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_resumed_is_uninterrupted_bit_for_bit(name: str, tmp_path: Path) -> None:
    """From the parts' states and the step alone; an evaluation on the way changes nothing."""
    schedule = [Segment(4, 1e-2), Segment(12, 5e-3)]

    def start() -> tuple[dict[str, parts.Stateful], LatentVariableModel, Objective, torch.optim.Optimizer]:
        model = problems.semi_implicit_gaussian() if name == "uivi" else problems.linear_gaussian()
        objective = OBJECTIVES[name]()
        optimizer = adam(model, objective)
        return {"model": model, "objective": objective, "optimizer": optimizer}, model, objective, optimizer

    stateful, model, objective, optimizer = start()
    whole = list(train(model, objective, optimizer, stream(), schedule, "sum", 2, seed=21))
    expected = parts.capture(stateful)

    stateful, model, objective, optimizer = start()
    first = []
    for report in train(model, objective, optimizer, stream(), schedule, "sum", 2, seed=21):
        first.append(report)
        if report.step == 6:
            checkpoints.save(tmp_path / "6.pt", parts.capture(stateful))
            break

    stateful, model, objective, optimizer = start()
    state = checkpoints.load(tmp_path / "6.pt")
    parts.restore(state, stateful)
    x = torch.randn(5, problems.X_DIM)
    evaluate(model, x, EVALUATORS.suited_to(model, x), lambda _: None)
    rest = list(train(model, objective, optimizer, stream(6), schedule, "sum", 2, first_step=6, seed=21))
    assert first + rest == whole
    assert_equal(parts.capture(stateful), expected)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty"])
def test_a_damaged_checkpoint_is_never_loaded(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "1.pt"
    checkpoints.save(path, {"step": 1, "x": torch.arange(50)})
    assert checkpoints.load(path)["step"] == 1
    raw = bytearray(path.read_bytes())
    if damage == "flipped":
        raw[len(raw) // 2] ^= 1
    path.write_bytes({"truncated": raw[:-20], "flipped": raw, "empty": b""}[damage])
    with pytest.raises(Damaged, match=r"1\.pt"):
        checkpoints.load(path)


def test_a_checkpoint_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "1.pt"
    checkpoints.save(path, {"step": 1})
    with pytest.raises(Exception, match="lambda"):
        checkpoints.save(path, {"step": 2, "bad": lambda: None})
    assert checkpoints.load(path) == {"step": 1}
