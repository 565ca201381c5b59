"""Data and files count by their content: the same images are the same run, others are another run."""

import shutil
from pathlib import Path

import pytest
import runs
import torch
from runs import directories, numbers

from evidence.records.directory import RunDirectory
from evidence.runs import provenance

pytestmark = pytest.mark.usefixtures("no_figures")


@pytest.fixture(autouse=True)
def _modules_of_mine(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(root))


def start(*overrides: str) -> int:
    return runs.start("tracking=none", "trainer.steps=40", *overrides)


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
    runs.said(capsys)
    assert start(*OWN, f"+data.folder={folder}", *rerun) == 0
    said = (
        f"{first.folder.name} was computed from other content (data has changed since): this is another run"
    )
    assert runs.said(capsys) == [f"evidence: {said}"]
    assert first.read() == record
    (second,) = (directory for directory in directories(root) if directory.folder != first.folder)
    assert second.read().data_digest != record.data_digest
    assert numbers(second) != numbers(first)

    capsys.readouterr()
    assert start(*OWN, f"+data.folder={folder}") == 0  # finished, and its data are as they were
    assert runs.said(capsys) == []
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
    runs.said(capsys)
    runs.begin(*own)
    said = f"{interrupted.folder.name} was computed from other content (data has changed since): this is another run"
    assert runs.said(capsys)[0] == f"evidence: {said}"
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
