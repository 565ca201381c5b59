"""What a run is, which record is its own, whose checkpoint it starts from, and by whose code."""

import json
import shutil
from pathlib import Path

import pytest
import runs
import torch
from equality import assert_equal

from evidence import execution, project
from evidence.records import checkpoints
from evidence.records.directory import RunDirectory, stored
from evidence.runs import provenance
from evidence.tracking import housekeeping

pytestmark = pytest.mark.usefixtures("no_figures")


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a test's runs lie; they need no store."""
    monkeypatch.setattr(project, "_root", tmp_path)
    return tmp_path


def directories(outputs: Path) -> list[RunDirectory]:
    """Of the records below `outputs`."""
    return [each.directory for each in stored(outputs)]


def start(*overrides: str) -> int:
    return runs.start("trainer.steps=40", "tracking=none", "model.hidden=[[20]]", *overrides)


def directory_of(root: Path, start: str) -> RunDirectory:
    (folder,) = root.glob(f"outputs/{start}*")
    return RunDirectory(folder)


def test_only_the_same_codes_checkpoints_are_gone_on_from(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert start("seed=1") == 0
    assert start("seed=1", "trainer.steps=60") == 0
    assert "goes on from step 40 of iwae-k3" in capsys.readouterr().err
    monkeypatch.setattr(provenance.metadata, "version", lambda name: "9.9")
    assert start("seed=1", "trainer.steps=80") == 0
    assert "goes on" not in capsys.readouterr().err
    assert start("seed=1") == 0
    assert "was computed by other code (torch 2." in capsys.readouterr().err


def test_init_from_carries_over_the_model_and_adams_state(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert start("objective=critic", "trainer.scale_rate=0.5") == 0
    source = directory_of(root, "critic")
    switch = ["objective=vae", f"init_from=outputs/{source.folder.name}"]
    assert start(*switch) == 0
    theirs, ours = runs.last_state(source), checkpoints.load(directory_of(root, "vae").checkpoints()[0])
    assert_equal(ours["model"], theirs["model"])
    number_of = {
        which: dict(zip(group["param_names"], group["params"], strict=True))
        for which, state in (("theirs", theirs), ("ours", ours))
        for group in state["optimizer"]["param_groups"]
    }
    assert len(number_of["ours"]) == len(ours["optimizer"]["state"]) < len(number_of["theirs"])
    for name, number in number_of["ours"].items():
        state = theirs["optimizer"]["state"][number_of["theirs"][name]]
        assert_equal(ours["optimizer"]["state"][number], state)

    assert directory_of(root, "vae").read().init_from == switch[1].removeprefix("init_from=")
    assert start("objective=vae") == 0  # another run: it starts from the seed
    names = {path.name for path in root.glob("outputs/vae-*")}
    assert len(names) == 2
    capsys.readouterr()
    assert start(*switch[:1], f"init_from={source.folder.name}", "trainer.steps=60") == 0
    assert "goes on from step 40 of vae" in capsys.readouterr().err  # a name and a path are one thing


def test_init_from_takes_the_end_of_a_run_that_was_only_evaluated(root: Path) -> None:
    assert start("objective=vae") == 0
    trained = directory_of(root, "vae")
    assert start("objective=vae", "eval.samples=70") == 0
    (evaluated,) = (
        directory for directory in directories(root / "outputs") if directory.folder != trained.folder
    )
    assert not evaluated.checkpoints()
    assert start("objective=iwae", f"init_from={evaluated.folder.name}") == 0
    began = checkpoints.load(directory_of(root, "iwae").checkpoints()[0])
    assert_equal(began["model"], runs.last_state(trained)["model"])


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["init_from=vea-k1-nothing"], "init_from=vea-k1-nothing: no finished run of that name in "),
        (["init_from={name}", "model.latent=[7]"], "choose its model"),
        (
            ["init_from={name}", "trainer=uivi_paper", "trainer.steps=9"],
            "trainer.optimizer._target_=torch.optim.Adam",
        ),
    ],
)
def test_init_from_says_what_it_needs(
    overrides: list[str], said: str, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert start("objective=vae") == 0
    name = directory_of(root, "vae").folder.name
    capsys.readouterr()
    assert start("objective=iwae", *(override.format(name=name) for override in overrides)) != 0
    printed = capsys.readouterr().err
    assert said in printed
    assert printed.count("\n") == 1
    assert not list(root.glob("outputs/iwae-*"))


def test_a_run_keeps_its_threads_and_says_where_it_cannot_keep_its_hardware(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = torch.get_num_threads()
    try:
        monkeypatch.setattr(execution, "THREADS", 2)
        assert start() == 0
        assert runs.last_state(directory_of(root, "iwae"))["execution"]["threads"] == 2
        monkeypatch.setattr(execution, "THREADS", 1)
        capsys.readouterr()
        assert start("trainer.steps=60") == 0
        assert torch.get_num_threads() == 2
        assert "mixed" not in capsys.readouterr().err
        monkeypatch.setattr(execution, "_hardware", lambda device: "an abacus")
        assert start("trainer.steps=80") == 0
    finally:
        torch.set_num_threads(before)
    assert "hardware cpu" in (said := capsys.readouterr().err)
    assert "is now an abacus): it is marked as mixed" in said
    results = [json.loads(path.read_text()) for path in root.glob("outputs/*/result.json")]
    assert sorted(len(result["mixed"]) for result in results) == [0, 0, 1]


def test_besides_stage_ends_the_last_two_checkpoints_are_kept(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    with directory.locked(waits=False):
        for step in (0, 3, 5, 8, 10, 13):
            directory.append_metrics([("train/elbo", -1.0, step)])
            directory.save_checkpoint({"step": step}, {0, 10, 20})
        assert sorted(directory.checkpoints()) == [0, 8, 10, 13]
        state = checkpoints.load(directory.checkpoints()[8])
        assert [row[2] for row in directory.read_metrics(state["metrics_size"])] == [0, 3, 5, 8]
        directory.drop_checkpoints({0, 10, 20}, 0)
        assert sorted(directory.checkpoints()) == [0, 10]


def test_a_password_in_the_stores_address_is_not_kept(root: Path) -> None:
    assert start("tracking.uri=http://me:secret@127.0.0.1:1") == 0
    assert "secret" not in directory_of(root, "iwae").config.read_text()
    assert "http://127.0.0.1:1" in directory_of(root, "iwae").config.read_text()


def test_checkpoints_of_other_code_are_not_passed_on(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The record of a longer run, begun by code A, goes on from a shorter run of code B: A's checkpoint goes."""
    steps = ["trainer.checkpoint_seconds=0", "seed=2"]
    assert runs.start("tracking=none", *steps, "trainer.steps=20", "paths.outputs=alone") == 0
    with monkeypatch.context() as patch:
        patch.setattr(provenance, "package_hash", lambda *_: "a" * 16)
        with runs.at_step(40, runs.interrupt):
            assert runs.start("tracking=none", *steps, "trainer.steps=60") == 130
    (longer,) = directories(root / "outputs")
    assert sorted(longer.checkpoints()) == [0, 20]
    assert runs.start("tracking=none", *steps, "trainer.steps=40") == 0
    with runs.at_step(60, runs.interrupt):
        assert runs.start("tracking=none", *steps, "trainer.steps=60", "other_code=true") == 130
    assert 20 not in longer.checkpoints()
    assert longer.read().mixed == []
    assert runs.start("tracking=none", *steps, "trainer.steps=20") == 0
    (alone,) = directories(root / "alone")
    (shorter,) = (directory for directory in directories(root / "outputs") if directory.read().steps == 20)
    assert runs.numbers(shorter) == runs.numbers(alone)


def test_a_child_of_a_mixed_run_is_mixed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(provenance, "package_hash", lambda *_: "a" * 16)
        with runs.at_step(40, runs.interrupt):
            assert start("objective=vae", "trainer.checkpoint_seconds=0") == 130
    assert start("objective=vae", "other_code=true") == 0
    source = directory_of(root, "vae")
    assert len(source.read().mixed) == 1
    child = ["objective=iwae", f"init_from={source.folder.name}/"]
    assert start(*child) == start(*child, "trainer.steps=60") == 0
    children = [directory.read() for directory in directories(root / "outputs") if directory.read().init_from]
    assert len(children) == 2
    for result in children:
        assert result.mixed == [f"init_from {source.folder.name}/: {source.read().mixed[0]}"]
    assert sorted(bool(result.parent) for result in children) == [False, True]


def test_init_from_in_another_folder_is_not_the_run_of_that_name_here(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert start("objective=vae") == 0
    name = directory_of(root, "vae").folder.name
    shutil.copytree(root / "outputs", root / "other")
    capsys.readouterr()
    assert start("objective=iwae", f"init_from={root / 'other' / name}") == 1
    assert f"init_from={root / 'other' / name}: lies outside of {root / 'outputs'}" in capsys.readouterr().err
    assert start("objective=iwae", f"init_from={root / 'outputs' / name}/") == 0


def test_a_copied_record_that_is_gone_on_with_is_another_and_a_moved_one_is_not(root: Path) -> None:
    with runs.at_step(40, runs.interrupt):
        assert start("trainer.checkpoint_seconds=0") == 130
    record = directory_of(root, "iwae").read().record
    shutil.copytree(root / "outputs", root / "copied")
    assert start("paths.outputs=copied") == 0
    (copy,) = directories(root / "copied")
    assert copy.read().record != record
    (root / "outputs").rename(root / "moved")
    assert start("paths.outputs=moved") == 0
    (moved,) = directories(root / "moved")
    assert moved.read().record == record


def test_a_record_without_its_config_stops_no_other(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert start("seed=1") == 0
    (directory,) = directories(root / "outputs")
    directory.config.unlink()
    capsys.readouterr()
    housekeeping.sync(root / "outputs", f"sqlite:///{root / 'mlflow.db'}", root, everything=False)
    assert f"{directory.config} cannot be read (it is missing): left out" in capsys.readouterr().err
    assert start("objective=vae", f"init_from={directory.folder.name}") == 1
    assert f"{directory.config} cannot be read (it is missing)" in capsys.readouterr().err


def test_init_from_stands_for_the_record_that_it_names(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert start("objective=vae") == 0
    (first,) = directories(root / "outputs")
    monkeypatch.setattr(provenance, "package_hash", lambda *_: "0" * 16)
    assert start("objective=vae", "rerun=true") == 0
    assert start("objective=iwae", f"init_from={first.folder.name}") == 0
    assert start("objective=iwae", f"init_from={first.folder.name}-2") == 0
    children = [directory for directory in directories(root / "outputs") if directory.read().init_from]
    assert len({directory.read().train_identity for directory in children}) == len(children) == 2
