"""What makes two runs the same: each of these changes, left out of the identity, gave one run another's number."""

import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import runs
import torch
from runs import directories, numbers

from evidence import project
from evidence.records import identity
from evidence.records.directory import RunDirectory
from evidence.records.identity import NOT_COMPARED, Identity, identify
from evidence.runs import lookup, provenance

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


OWN_DATA = """
import pathlib, torch
from evidence.data import Dataset

def load(folder, pixels):
    images = torch.frombuffer(bytearray(pathlib.Path(folder, "own.bin").read_bytes()), dtype=torch.uint8).view(-1, 64)
    return Dataset(images[200:], 16, images[:100] // 9, images[100:200] // 9, (8, 8), {})
"""
OWN = ["data._target_=images_of_mine.load", "data.name=own", "~data.binarization"]


@pytest.mark.parametrize("change", ["another folder", "files replaced"])
@pytest.mark.parametrize("rerun", [[], ["rerun=true"]])
def test_images_of_mine_belong_to_a_run_by_their_content(
    change: str, rerun: list[str], root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "images_of_mine.py").write_text(OWN_DATA)
    for name in ("a", "b"):
        (root / name).mkdir()
        images = torch.randint(17, (500, 64), dtype=torch.uint8)
        (root / name / "own.bin").write_bytes(images.numpy().tobytes())
    assert start(*OWN, f"+data.folder={root / 'a'}") == 0
    (first,) = directories(root)
    record = first.read()
    if change == "files replaced":
        shutil.copy(root / "a" / "own.bin", root / "kept.bin")
        shutil.copy(root / "b" / "own.bin", root / "a" / "own.bin")
    folder = root / ("a" if change == "files replaced" else "b")
    notes(capsys)
    assert start(*OWN, f"+data.folder={folder}", *rerun) == 0
    said = (
        f"{first.folder.name} was computed from other content (data has changed since): this is another run"
    )
    assert notes(capsys) == [said]
    assert first.read() == record
    (second,) = (directory for directory in directories(root) if directory.folder != first.folder)
    assert second.read().data_digest != record.data_digest
    assert numbers(second) != numbers(first)

    capsys.readouterr()
    assert start(*OWN, f"+data.folder={folder}") == 0  # finished, and its data are as they were
    assert notes(capsys) == []
    if change == "files replaced":
        shutil.copy(root / "kept.bin", root / "a" / "own.bin")
    assert start(*OWN, f"+data.folder={root / 'a'}") == 0
    assert len(directories(root)) == 2  # the same content is the same run again


def test_an_interrupted_run_is_not_gone_on_with_when_its_data_are_cut_short(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "images_of_mine.py").write_text(OWN_DATA)
    whole = torch.randint(17, (600, 64), dtype=torch.uint8).numpy().tobytes()
    file = root / "own.bin"
    file.write_bytes(whole)
    own = [*OWN, f"+data.folder={root}", "tracking=none"]
    assert runs.start(*own, "paths.outputs=whole") == 0
    runs.begin(*own)
    (interrupted,) = directories(root)
    before = interrupted.read()
    file.write_bytes(whole[: 400 * 64])
    notes(capsys)
    runs.begin(*own)
    said = f"{interrupted.folder.name} was computed from other content (data has changed since): this is another run"
    assert notes(capsys)[0] == said
    assert interrupted.read() == before
    (other,) = {directory.folder for directory in directories(root)} - {interrupted.folder}
    shutil.rmtree(other)
    file.write_bytes(whole)
    assert runs.start(*own) == 0
    (expected,) = map(RunDirectory, root.glob("whole/*-*"))
    assert numbers(interrupted) == numbers(expected)


def test_a_file_that_a_users_class_is_given_belongs_to_a_run_by_its_content(root: Path) -> None:
    (root / "scaled.py").write_text(
        "import pathlib\nfrom evidence.objectives import ELBO\n"
        "class Scaled(ELBO):\n"
        "    def __init__(self, k, file):\n"
        "        super().__init__(k)\n"
        "        self.scale = float(pathlib.Path(file).read_text())\n"
        "    def forward(self, model, x):\n"
        "        estimate = super().forward(model, x)\n"
        "        return estimate._replace(surrogate=self.scale * estimate.surrogate)\n"
    )
    file = root / "scale.txt"
    command = ["objective=vae", "objective._target_=scaled.Scaled", "objective.name=scaled", "~objective.kl"]
    for scale in ("1.0", "0.1"):
        file.write_text(scale)
        assert start(*command, f"+objective.file={file}") == 0
    first, second = directories(root)
    assert numbers(first) != numbers(second)
    section = {
        "_target_": "mine.Own",
        "weights": {"_target_": "torch.load", "f": str(file)},
        "text": "x" * 300,
    }
    assert set(provenance.content({"objective": section, "model": {}, "trainer": {}})) == {
        "objective.weights.f"
    }


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
