"""What makes two runs the same: each of these changes, left out of the identity, gave one run another's number."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import runs
from runs import directories, numbers

from evidence import project
from evidence.records import identity
from evidence.records.directory import RunDirectory
from evidence.records.identity import NOT_COMPARED, Identity, identify
from evidence.runs import lookup

pytestmark = pytest.mark.usefixtures("no_figures")

CONFIG: dict[str, Any] = {
    "k": 5,
    "seed": 0,
    "name": "a",
    "device": "cpu",
    "init_from": None,
    "data": {"name": "digits", "pixels": 64},
    "model": {"name": "one_layer", "latent": [50]},
    "objective": {"name": "iwae"},
    "trainer": {"name": "smoke", "stages": None, "steps": 40, "learning_rate": 1e-3, "log_every": 20},
    "eval": {"name": "smoke", "samples": 50, "rows": 100, "keep_log_weights": False},
}
RECORD = {
    "train_identity": "t",
    "train_cell": "c",
    "steps": 40,
    "data_digest": "d",
    "mixed": [],
    "record": "r",
}


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a test's runs lie; they need no store."""
    monkeypatch.setattr(project, "_root", tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # which would outlive two edits within a second
    return tmp_path


def start(*overrides: str) -> int:
    return runs.start("tracking=none", "model.hidden=[[20]]", "trainer.steps=40", *overrides)


def notes(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line.removeprefix("evidence: ") for line in runs.said(capsys)]


def changed(section: str | None = None, **changes: Any) -> Identity:
    inner = changes if section is None else {section: CONFIG[section] | changes}
    return identify(CONFIG | inner, {}, None)


def test_who_watches_and_where_it_is_computed_belong_to_no_identity() -> None:
    for other in (
        changed(name="b"),
        changed(device="cuda"),
        changed(rerun=True),
        changed(fail_fast=True),
        changed(plan=True),
        changed("trainer", log_every=7),
        changed("data", folder="elsewhere"),
    ):
        assert other == changed()


def test_the_document_names_every_key_that_is_not_compared() -> None:
    page = (runs.CONF.parent / "docs" / "identity.md").read_text()
    exceptions = page.partition("with these exceptions:")[2].partition("**The schedule.**")[0]
    keys = {".".join(path) for path in NOT_COMPARED} - {"init_from"}  # which has a paragraph of its own
    named = {*re.findall(r"`([\w.]+)`", exceptions)} - {
        "folder",
        "eval.also",
    }  # a user's names are between them
    assert named == keys


def test_length_and_evaluation_belong_to_the_run_and_not_to_the_path_of_the_parameters() -> None:
    for other in (changed("trainer", steps=80), changed("eval", samples=60), changed("eval", images=60)):
        assert other.train == changed().train
        assert other.run != changed().run
        assert other.cell != changed().cell
    assert changed("eval", rows=200) == changed()


def test_a_file_that_a_metric_is_given_belongs_to_the_run_and_not_to_the_path_of_the_parameters() -> None:
    one, other = (identify(CONFIG, {"eval.metrics.own.file": content}, None) for content in "ab")
    assert (one.train, one.train_cell, one.form) == (other.train, other.train_cell, other.form)
    assert one.train == changed().train
    assert len({one.run, other.run, changed().run}) == len({one.cell, other.cell, changed().cell}) == 3


def test_all_that_shapes_the_parameters_belongs_to_the_train_identity() -> None:
    source = RECORD | {"code": {"evidence": "e"}}
    others = [
        changed(seed=1),
        changed("trainer", learning_rate=1e-2),
        changed("trainer", decay=0.9, decay_every=10),
        changed("trainer", stages=3, steps=None),
        identify(CONFIG, {"data": "images"}, None),
        identify(CONFIG, {"data": "other images"}, None),
        identify(CONFIG | {"init_from": "x"}, {}, source),
        identify(CONFIG | {"init_from": "x"}, {}, source | {"code": {"evidence": "other"}}),
        identify(CONFIG | {"init_from": "x"}, {}, source | {"data_digest": "other"}),
        identify(CONFIG | {"init_from": "x"}, {}, source | {"mixed": ["from step 20"]}),
        identify(CONFIG | {"init_from": "x"}, {}, source | {"mixed": ["from step 20"], "record": "other"}),
    ]
    assert len({each.train for each in [changed(), *others]}) == len(others) + 1


def test_a_cell_is_all_but_the_seed_and_of_a_source_all_but_its_seed() -> None:
    source = RECORD | {"code": {"evidence": "e"}}
    assert changed(seed=1).cell == changed().cell
    assert changed("eval", keep_log_weights=True).cell == changed().cell
    child = identify(CONFIG | {"init_from": "x"}, {}, source)
    sibling = identify(CONFIG | {"init_from": "y", "seed": 1}, {}, source | {"train_identity": "other"})
    assert child.cell == sibling.cell != changed().cell
    assert child.run != sibling.run


def test_options_of_a_class_count_with_the_order_of_mappings_and_the_types_of_keys() -> None:
    def run(**options: Any) -> str:
        return changed("objective", _target_="mine.Own", **options).run

    assert run(a=1, b=2) == run(b=2, a=1)  # arguments by keyword
    tables = [
        {"a": 1, "b": 2},
        {"b": 2, "a": 1},
        {1: 1},
        {"1": 1},
        {True: 1},
        {1: 1.0},
        {1: "1"},
        {1: 1, "a": 2},
    ]
    assert (
        len({run(table=table) for table in tables})
        == len({run(table=[table]) for table in tables})
        == len(tables)
    )
    inner = [{"_target_": "mine.Inner", "a": 1, "b": 2}, {"b": 2, "_target_": "mine.Inner", "a": 1}]
    assert len({run(inner=each) for each in inner}) == 1


@pytest.mark.parametrize("is_reversed", [False, True])
@pytest.mark.parametrize(
    "schedules",
    [
        (["trainer.stages=1", "trainer.steps=null"], ["trainer.steps=69"]),  # one pass of 69 steps
        (["trainer.decay=0.5", "trainer.decay_every=20"], []),
        (["trainer.decay=0.5", "trainer.decay_every=20"], ["trainer.decay=0.5", "trainer.decay_every=10"]),
    ],
)
def test_schedules_that_pass_the_same_steps_are_not_the_same(
    schedules: tuple[list[str], list[str]], is_reversed: bool, root: Path
) -> None:
    first, second = schedules[::-1] if is_reversed else schedules
    assert start(*first, "paths.outputs=both") == start(*second, "paths.outputs=both") == 0
    assert start(*second, "paths.outputs=alone") == 0
    (alone,) = map(RunDirectory, root.glob("alone/*-*"))
    assert len(list(root.glob("both/*-*"))) == 2
    assert numbers(RunDirectory(root / "both" / alone.folder.name)) == numbers(alone)


def test_the_whole_hash_decides_where_two_runs_share_a_folders_name(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = identity._digest
    monkeypatch.setattr(identity, "_digest", lambda value: "abcdef" + real(value)[6:])
    assert start() == 0
    assert start("trainer.learning_rate=0.01") == 0
    first, second = directories(root)
    assert second.folder.name == f"{first.folder.name}-2"
    assert numbers(first) != numbers(second)
    assert start("trainer.learning_rate=0.01") == start() == 0
    assert len(directories(root)) == 2
    sweep = ["-m", "trainer.learning_rate=0.02,0.03"]
    assert start(*sweep) == 0
    assert (
        len({directory.read().run_identity for directory in directories(root)}) == len(directories(root)) == 4
    )


def test_a_record_of_an_earlier_version_is_named_and_not_used(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in (identity, lookup):
        monkeypatch.setattr(module, "VERSION", 1)
    assert start() == 0
    (old,) = directories(root)
    record = old.read()
    monkeypatch.undo()
    monkeypatch.setattr(project, "_root", root)
    notes(capsys)
    assert start("seed=1") == 0
    assert notes(capsys) == []  # not its settings
    assert start() == 0
    assert notes(capsys) == [f"{old.folder} was made by an earlier version of evidence: it is not used"]
    assert old.read() == record
    assert len(directories(root)) == 3
    assert start() == 0
    assert notes(capsys) == []
    assert start("objective=vae", f"init_from={old.folder.name}") == 1
    assert "was made by an earlier version of evidence" in notes(capsys)[0]
