"""Disks that fill up, files that break: what the user reads, what the record says, and that nothing is lost.

Each fault is a real one where that can be had. The same command then ends with the numbers of a run that was
never disturbed.
"""

import ctypes
import hashlib
import resource
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from runs import (
    assert_ends_as,
    at_step,
    begin,
    mlflow_runs,
    only_directory,
    said,
    settings,
    start,
    stored_rows,
)

from evidence.data import sets
from evidence.records.checkpoints import load
from evidence.records.directory import Row, RunDirectory
from evidence.runs import lifecycle
from evidence.tracking import runs

pytestmark = pytest.mark.usefixtures("no_figures")

FULL = Path("/dev/full")  # whoever writes there is told that the disk is full


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flip_a_bit(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize("damage", [cut, flip_a_bit])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(
    damage, root: Path, undisturbed: dict[str, float], capsys: pytest.CaptureFixture[str]
) -> None:
    begin()
    path = only_directory(root).checkpoints()[40]
    path.write_bytes(damage(path.read_bytes()))
    said(capsys)
    assert start() == 0
    damaged, line = said(capsys)
    assert damaged == f"evidence: {path} cannot be read (its checksum is wrong): left out"
    assert damaged.removeprefix("evidence: ") in only_directory(root).log.read_text()
    assert line.endswith("goes on from step 20 to 60")
    assert_ends_as(root, undisturbed)


def test_a_disk_full_while_checkpointing_keeps_the_checkpoint_before(
    root: Path, undisturbed: dict[str, float], capsys: pytest.CaptureFixture[str]
) -> None:
    def fill_the_disk(_: object) -> None:
        (only_directory(root).folder / "checkpoints" / "000000040.pt.tmp").symlink_to(FULL)

    with at_step(20, fill_the_disk):
        assert start() == 1
    (line,) = said(capsys)
    directory = only_directory(root)
    assert line.startswith("evidence: paths.outputs=outputs cannot be used (No space left on device)")
    assert "the same command goes on" in line
    assert directory.read().status == "FAILED"
    assert "No space left on device" in directory.read().error
    assert sorted(directory.checkpoints()) == [0, 20]
    assert list(directory.folder.rglob("*.tmp")) == []
    assert load(directory.checkpoints()[20])["step"] == 20
    (run,) = mlflow_runs()
    assert run.info.status == "FAILED"
    assert start() == 0
    (line,) = said(capsys)
    assert line.endswith("goes on from step 20 to 60")
    assert_ends_as(root, undisturbed)


def test_a_disk_full_while_writing_metrics_leaves_no_half_row(
    root: Path,
    undisturbed: dict[str, float],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    real = RunDirectory.append_metrics

    def fill_the_disk(directory: RunDirectory, rows: list[Row]) -> None:
        if rows[0][2] == 40:
            with directory.metrics.open("a") as file:
                file.write("train/iwae,-12.")
            directory = RunDirectory(directory.folder)
            directory.metrics = FULL
        real(directory, rows)

    with monkeypatch.context() as patch:
        patch.setattr(RunDirectory, "append_metrics", fill_the_disk)
        assert start() == 1
    (line,) = said(capsys)
    directory = only_directory(root)
    assert line.startswith("evidence: paths.outputs=outputs cannot be used (No space left on device)")
    assert directory.read().status == "FAILED"
    (run,) = mlflow_runs()
    assert run.info.status == "FAILED"
    assert start() == 0
    assert_ends_as(root, undisturbed)


@pytest.mark.parametrize("target", [FULL, Path("/")])
def test_a_log_alone_that_cannot_be_written_stops_nothing(
    target: Path, root: Path, undisturbed: dict[str, float], capsys: pytest.CaptureFixture[str]
) -> None:
    begin()
    only_directory(root).log.unlink()
    only_directory(root).log.symlink_to(target)
    assert start() == 0
    said(capsys)
    assert_ends_as(root, undisturbed)


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_full_for_the_store_stops_nothing_and_sync_delivers(
    root: Path,
    undisturbed: dict[str, float],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    real = runs.store_errors

    @contextmanager
    def asking_on_a_full_disk(*given: str) -> Iterator[None]:
        with real(*given), no_file_larger_than(0):
            yield

    with (
        monkeypatch.context() as patch,
        at_step(40, lambda _: patch.setattr(runs, "store_errors", asking_on_a_full_disk)),
    ):
        assert start() == 0
    (line,) = said(capsys)
    assert line.startswith("evidence: the MLflow store sqlite:///")
    assert f"The record is in {only_directory(root).folder}" in line
    assert "`make sync` will deliver it" in line
    assert only_directory(root).read().status == "FINISHED"
    (run,) = mlflow_runs()
    assert [step for name, _, step in stored_rows(run) if name == "train/iwae"] == [20]
    lifecycle.sync(settings())
    assert said(capsys) == [f"evidence: records in {root / 'outputs'}: delivered 1"]
    assert_ends_as(root, undisturbed)


def test_a_file_of_a_data_set_cut_short_is_named_and_not_used(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    contents = {
        name: struct.pack(">IIII", 0x803, images, 28, 28)
        + torch.randint(256, (images * 784,), dtype=torch.uint8).numpy().tobytes()
        for name, images in ((sets.IDX_TRAIN, 500), (sets.IDX_TEST, 50))
    }
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    monkeypatch.setattr(sets, "MNIST", sets.Collection("mnist", digests, ()))
    (root / "data" / "mnist").mkdir(parents=True)
    for name, content in contents.items():
        (root / "data" / "mnist" / name).write_bytes(content)
    mnist = ["data=mnist", "paths.data=data", "trainer.steps=60"]
    begin(*mnist)
    path = root / "data" / "mnist" / sets.IDX_TRAIN
    path.write_bytes(contents[path.name][:-1])
    before = only_directory(root).read()
    said(capsys)
    assert start(*mnist) == 1
    (line,) = said(capsys)
    assert path.name in line
    assert only_directory(root).read() == before
    path.write_bytes(contents[path.name])
    assert start(*mnist) == 0
    assert only_directory(root).read().status == "FINISHED"


@contextmanager
def permissions_in_force() -> Iterator[None]:
    """Inside the block, root too may not write where the permission bits forbid it."""
    libc = ctypes.CDLL(None)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # this thread's capabilities, in their third layout
    capabilities = (ctypes.c_uint32 * 6)()
    assert libc.capget(header, capabilities) == 0
    effective = capabilities[0]
    capabilities[0] &= ~0b110  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH
    assert libc.capset(header, capabilities) == 0
    try:
        yield
    finally:
        capabilities[0] = effective
        assert libc.capset(header, capabilities) == 0


def change_modes(folder: Path, of_folders: int, of_files: int) -> None:
    for path in [folder, *folder.rglob("*")]:
        path.chmod(of_folders if path.is_dir() else of_files)


def test_a_read_only_output_folder_is_named_and_nothing_begun(
    root: Path, undisturbed: dict[str, float], capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = root / "outputs"
    outputs.mkdir()
    change_modes(outputs, 0o555, 0o444)
    with permissions_in_force():
        assert start() == 1
    (line,) = said(capsys)
    assert line.startswith(f"evidence: paths.outputs=outputs cannot be used ({outputs}")
    assert "Permission denied" in line
    assert list(outputs.iterdir()) == mlflow_runs() == []
    change_modes(outputs, 0o755, 0o644)
    begin()
    said(capsys)
    change_modes(outputs, 0o555, 0o444)
    before = only_directory(root).read()
    with permissions_in_force():
        assert start() == 1
    (line,) = said(capsys)
    assert "Permission denied" in line
    assert only_directory(root).read() == before
    change_modes(outputs, 0o755, 0o644)
    assert start() == 0
    assert_ends_as(root, undisturbed)


def test_a_finished_run_in_a_read_only_folder_is_shown(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert start() == 0
    shown = capsys.readouterr().out
    change_modes(root / "outputs", 0o555, 0o444)
    with permissions_in_force():
        assert start() == 0
        lifecycle.prepare(settings())
    printed = capsys.readouterr()
    assert printed.out == shown
    assert printed.err == ""
    change_modes(root / "outputs", 0o755, 0o644)
