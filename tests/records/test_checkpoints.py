"""A checkpoint is a plain torch file with its checksum beside it, whatever moment its process dies at."""

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from evidence.records import checkpoints, files, lineage
from evidence.records.damage import Damaged
from evidence.records.directory import RunDirectory

OLD, NEW = {"step": 1, "x": torch.arange(3)}, {"step": 1, "x": torch.arange(4)}


class Killed(BaseException):
    """The end of a process."""


@contextlib.contextmanager
def killed_at(number: int, after: bool) -> Iterator[None]:
    """Inside, the process dies before or after it replaces its file `number`, counted from 0."""
    real, calls = files.os.replace, iter(range(100))

    def replace(*paths: Any) -> None:
        call = next(calls)
        if call == number and not after:
            raise Killed
        real(*paths)
        if call == number:
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files.os, "replace", replace)
        yield


def test_a_checkpoint_is_a_plain_file_that_sha256sum_checks(tmp_path: Path) -> None:
    checkpoints.save(tmp_path / "1.pt", OLD)
    assert torch.equal(torch.load(tmp_path / "1.pt", weights_only=True)["x"], OLD["x"])
    subprocess.run(["sha256sum", "--check", "--quiet", "1.pt.sha256"], cwd=tmp_path, check=True)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_process_that_dies_while_it_replaces_one_leaves_the_old_or_the_new(
    number: int, after: bool, tmp_path: Path
) -> None:
    path = tmp_path / "1.pt"
    checkpoints.save(path, OLD)
    with killed_at(number, after), pytest.raises(Killed):
        checkpoints.save(path, NEW)
    is_new = number == 2 or (number == 1 and after)
    assert torch.equal(checkpoints.load(path)["x"], (NEW if is_new else OLD)["x"])
    checkpoints.save(path, NEW)
    assert torch.equal(checkpoints.load(path)["x"], NEW["x"])
    assert len((tmp_path / "1.pt.sha256").read_text().splitlines()) == 1


def test_a_checksum_of_a_checkpoint_that_was_never_written_counts_for_nothing_and_goes(
    tmp_path: Path,
) -> None:
    directory = RunDirectory(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    with killed_at(1, after=False), pytest.raises(Killed):
        directory.save_checkpoint({"step": 2}, ())
    assert [path.name for path in tmp_path.glob("checkpoints/*.sha256")] == ["000000002.pt.sha256"]
    assert directory.checkpoints() == {}
    with pytest.raises(FileNotFoundError):
        checkpoints.load(tmp_path / "checkpoints" / "000000002.pt")
    for step in (3, 4, 5):
        directory.save_checkpoint({"step": step}, ())
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == [f"00000000{step}.pt{suffix}" for step in (4, 5) for suffix in ("", ".sha256")]


def test_a_checkpoint_of_an_earlier_version_is_named(tmp_path: Path) -> None:
    path = tmp_path / "1.pt"
    checkpoints.save(path, OLD)
    digest, payload = (tmp_path / "1.pt.sha256").read_bytes()[:64], path.read_bytes()
    path.write_bytes(digest + b"\n" + payload)
    (tmp_path / "1.pt.sha256").unlink()
    with pytest.raises(Damaged, match=r"1\.pt cannot be read \(there is no 1\.pt\.sha256 beside it"):
        checkpoints.load(path)


def test_a_checksum_of_another_file_is_damage(tmp_path: Path) -> None:
    checkpoints.save(tmp_path / "1.pt", OLD)
    checkpoints.save(tmp_path / "2.pt", NEW)
    shutil.copy(tmp_path / "1.pt.sha256", tmp_path / "2.pt.sha256")
    with pytest.raises(Damaged, match=r"2\.pt cannot be read \(its checksum is wrong\)"):
        checkpoints.load(tmp_path / "2.pt")


def test_one_checkpoint_is_read_where_one_is_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory, read = RunDirectory(tmp_path), list[int]()
    (tmp_path / "checkpoints").mkdir()
    for step in (1, 5, 10**9, 10**10):
        checkpoints.save(tmp_path / "checkpoints" / f"{step:09d}.pt", {"step": step, "metrics_size": 0})
    assert [*directory.checkpoints()] == [1, 5, 10**9, 10**10]
    monkeypatch.setattr("evidence.records.lineage.load", lambda path: read.append(int(path.stem)) or {})
    for step in (5, 7, 10**10):
        found = lineage.checkpoint_at([directory], step)
        assert (found.step if found else None) == (None if step == 7 else step)
    assert read == [5, 10**10]
