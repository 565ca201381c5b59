"""Damaged records: each is named in one line and left out, and every command goes on."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from runs import at_step, begin, directories, interrupt, numbers, only_directory, said, start

from evidence import project
from evidence.errors import UserError
from evidence.records.directory import RunDirectory
from evidence.report import measurements
from evidence.sweeps.notes import JobNotes, Note

pytestmark = pytest.mark.usefixtures("no_figures")

Damage = Callable[[Path], object]


def rewritten(content: bytes) -> Damage:
    return lambda path: path.write_bytes(content)


def cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def to_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def to_a_link(target: str) -> Damage:
    def damage(path: Path) -> None:
        path.unlink()
        path.symlink_to(target)

    return damage


DAMAGES: dict[str, Damage] = {
    "torn": cut,
    "empty": rewritten(b""),
    "a list": rewritten(b"[1]"),
    "of another program": rewritten(b'{"status": 3, "name": [], "data": null, "tracking": 1}'),
    "not UTF-8": rewritten(b"\xff\xfe\x00"),
    "a folder": to_a_folder,
    "a broken link": to_a_link("nowhere"),
    "a circular link": lambda path: to_a_link(path.name)(path),
    "unreadable": to_a_link("/proc/self/mem"),  # reading its first byte fails, also for root
}
COMMANDS = {  # each reads the records of all runs
    "a new run": ["tracking=none"],
    "a plan": ["plan=true", "-m", "seed=0,1"],
    "sync": ["sync=true"],
}


@pytest.fixture(scope="module")
def neighbours(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The folders of a finished run, and of one that was interrupted at step 60 on the path of `start()`."""
    from evidence.runs import figures

    root = tmp_path_factory.mktemp("neighbour")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(project, "_root", root)
        patch.setattr(figures, "draw", lambda *_: None)
        assert start("seed=5") == 0
        with at_step(60, interrupt):
            assert start("trainer.steps=80") == 130
    return [each.folder for each in sorted(directories(root), key=lambda each: each.read().steps)]


def damaged_copies(neighbour: Path, root: Path, name: str) -> list[Path]:
    """Make a copy of the neighbour for each damage, and return the damaged files."""
    damaged = []
    for number, damage in enumerate(DAMAGES.values()):
        folder = shutil.copytree(neighbour, root / "outputs" / f"{neighbour.name}-{number + 2}")
        damaged.append(folder / name)
        damage(folder / name)
    return damaged


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", ["result.json", "config.yaml"])
def test_a_damaged_neighbour_is_named_and_stops_no_command(
    name: str, command: str, neighbours: list[Path], root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = damaged_copies(neighbours[0], root, name)
    assert start(*COMMANDS[command]) == 0
    lines = [line for line in said(capsys) if line.endswith("left out")]
    if (name, command) == ("config.yaml", "a new run"):  # which does not read it
        assert lines == []
        return
    named = [line.split()[1].removesuffix(f"/{name}") for line in lines]
    assert sorted(named) == sorted(str(path.parent) for path in damaged)


def test_settings_that_were_edited_are_not_those_of_the_run(neighbours: list[Path], tmp_path: Path) -> None:
    directory = RunDirectory(shutil.copytree(neighbours[0], tmp_path / "copied"))
    written = directory.config.read_text()
    directory.config.write_text(written.replace("device: cpu", "device: auto"))  # on which no number depends
    assert directory.settings["device"] == "auto"
    for key in ("activation: ", "seed: ", "learning_rate: "):
        assert key in written
        directory.config.write_text(re.sub(rf"\b{key}.*", f"{key}7", written))
        with pytest.raises(UserError, match=r"config\.yaml .*other settings than the run was computed with"):
            directory.settings  # noqa: B018
    assert RunDirectory(neighbours[0]).settings["seed"] == 5


@pytest.mark.parametrize("name", ["metrics.csv", "checkpoints/000000040.pt"])
def test_a_run_goes_on_from_the_furthest_commit_that_is_whole(
    name: str,
    neighbours: list[Path],
    root: Path,
    undisturbed: dict[str, float],
    capsys: pytest.CaptureFixture[str],
) -> None:
    damaged = damaged_copies(neighbours[1], root, name)
    assert start("tracking=none") == 0
    lines = said(capsys)
    assert sorted(line.split()[1] for line in lines if "cannot be read" in line) == sorted(map(str, damaged))
    if name != "metrics.csv":
        assert "goes on from step 20 of" in lines[-1]
    (ours,) = (each for each in directories(root) if each.read().steps == 60)
    assert numbers(ours) == undisturbed
    assert [row[2] for row in ours.read_metrics() if row[0] == "train/iwae"] == [20, 40, 60]


def test_a_damaged_record_of_the_run_itself_keeps_its_folder(
    root: Path, undisturbed: dict[str, float], capsys: pytest.CaptureFixture[str]
) -> None:
    begin("tracking=none")
    damaged = only_directory(root)
    path = damaged.folder / "result.json"
    cut(path)
    torn = path.read_bytes()
    said(capsys)
    assert start("tracking=none") == 0
    assert said(capsys)[0].startswith(f"evidence: {path} cannot be read (")
    assert path.read_bytes() == torn
    assert sorted(damaged.checkpoints()) == [0, 20, 40]
    ours = RunDirectory(damaged.folder.with_name(f"{damaged.folder.name}-2"))
    assert ours.read().status == "FINISHED"
    assert numbers(ours) == undisturbed


def test_a_damaged_note_or_measurement_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    notes = JobNotes(tmp_path)
    for number in range(len(DAMAGES) + 1):
        notes.write(Note(number, ["seed=1"]))
    for number, damage in enumerate(DAMAGES.values()):
        damage(tmp_path / f"job-{number}.json")
    assert [*notes.notes()] == [len(DAMAGES)]
    assert len(said(capsys)) == len(DAMAGES)
    for damage in (rewritten(b""), rewritten(b"\xff"), to_a_folder, to_a_link("nowhere")):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.csv"
        path.write_text("source,x\na,1\n")
        damage(path)
        assert measurements.read(path, {}).empty
        assert str(path) in said(capsys)[0]


def test_one_run_that_cannot_be_measured_does_not_stop_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    measured = []

    def measure(run: "pd.Series[str]") -> None:
        if run["run"] == "b":
            raise UserError("/b/result.json cannot be read (it is empty)")
        measured.append(run["run"])

    with pytest.raises(UserError, match="not measured: b"):
        measurements.each(pd.DataFrame({"run": ["a", "b", "c"]}), measure)
    assert measured == ["a", "c"]
    assert said(capsys) == ["evidence: b is not measured: /b/result.json cannot be read (it is empty)"]
