"""Validation between the ends of stages: where it falls, and that no number of the end depends on it."""

from pathlib import Path

import pytest
import torch
from runs import at_step, directories, interrupt, last_state, numbers, only_directory, settings, start

from evidence.records.directory import RunDirectory
from evidence.runs import validation

pytestmark = pytest.mark.usefixtures("no_figures")
LONG = ["trainer.steps=160", "trainer.log_every=20"]  # of 69 steps in a pass


def validated(directory: RunDirectory) -> list[int]:
    return [step for name, _, step in directory.read_metrics() if name == "valid/nll"]


def test_a_run_is_validated_at_the_first_report_after_each_pass(root: Path) -> None:
    assert start(*LONG, "tracking=none", "trainer.validate_every=1") == 0
    directory = only_directory(root)
    assert validated(directory) == [80, 140, 160]
    assert start(*LONG, "tracking=none", "trainer.validate_every=null") == 0  # it is the same run
    assert len(directories(root)) == 1


def test_no_number_of_the_end_depends_on_it(root: Path) -> None:
    often, seldom = (
        (f"paths.outputs={name}", *LONG, "tracking=none", f"trainer.validate_every={every}")
        for name, every in (("often", 1), ("seldom", "null"))
    )
    assert start(*often) == 0
    assert start(*seldom) == 0
    (ours,), (theirs,) = (
        [RunDirectory(path.parent) for path in root.glob(f"{name}/*/result.json")]
        for name in ("often", "seldom")
    )
    assert numbers(ours) == numbers(theirs)
    assert validated(theirs) == [160]
    assert set(theirs.read_metrics()) < set(ours.read_metrics())
    pairs = (each["model"] for each in (last_state(ours), last_state(theirs)))
    one, other = pairs
    assert all(torch.equal(value, other[key]) for key, value in one.items())


def test_a_resumed_run_is_validated_where_an_uninterrupted_one_is(root: Path) -> None:
    often = [*LONG, "tracking=none", "trainer.validate_every=1"]
    with at_step(140, interrupt):
        assert start(*often) == 130
    assert start(*often) == 0
    assert validated(only_directory(root)) == [80, 140, 160]


@pytest.mark.parametrize(
    ("words", "splits", "passes"),
    [
        (["k=5", "trainer=quick"], (59_600, 400), 1),
        (["k=50", "trainer=quick"], (59_600, 400), 1),
        (["k=1", "trainer=quick"], (59_600, 400), 3),
        (["k=50", "trainer=quick"], (50_000, 10_000), 2),
        (["k=1", "trainer=quick"], (50_000, 10_000), 67),  # more than there are: at the ends of stages
        (["k=50", "trainer=paper"], (59_600, 400), 164),
        (["trainer=quick", "trainer.validate_every=2"], (50_000, 10_000), 2),
    ],
)
def test_by_itself_it_gives_a_curve_and_costs_little(
    words: list[str], splits: tuple[int, int], passes: int
) -> None:
    chosen = settings(
        "trainer.steps=null", "trainer.stages=3", *words, *(["trainer.stages=8"] * ("paper" in words[1]))
    )
    per_pass = splits[0] // 20
    last = per_pass * (3**chosen.trainer.stages - 1) // 2
    assert validation.interval(chosen, *splits, last) == passes * per_pass
    off = settings("trainer.validate_every=null")
    assert validation.interval(off, *splits, last) is None


def test_a_wrong_interval_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in ("0", "0.5", "often"):
        assert start(f"trainer.validate_every={wrong}") == 2
        assert f"trainer.validate_every={wrong}" in capsys.readouterr().err.replace("'", "")
