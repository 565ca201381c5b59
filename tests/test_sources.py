"""Files are used only with their pinned checksum, whatever lies on disk and whatever a server sends."""

import gzip
import hashlib
import io
import logging
import os
import struct
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from evidence.data import mirrors, mnist, sets, sources
from evidence.data.sources import Collection, Source, has_digest, load
from evidence.errors import UserError

NAMES = (sets.IDX_TRAIN, sets.IDX_TEST)


def idx(images: int, value: int) -> bytes:
    """A tiny image file of the real layout."""
    return struct.pack(">IIII", 0x803, images, 28, 28) + bytes([value]) * (images * 784)


GOOD = {sets.IDX_TRAIN: idx(500, 255), sets.IDX_TEST: idx(10, 0)}
DIGESTS = {name: hashlib.sha256(content).hexdigest() for name, content in GOOD.items()}


class Giving:
    """A source that gives these contents, and counts how often it is asked for which names."""

    def __init__(self, contents: dict[str, bytes]) -> None:
        self.contents, self.asked = contents, []

    def __call__(self, scratch: Path, names: Sequence[str]) -> dict[str, bytes]:
        self.asked.append(sorted(names))
        return {name: self.contents[name] for name in names}


def failing(scratch: Path, names: Sequence[str]) -> dict[str, bytes]:
    raise mirrors.Unavailable("no mirror answered")


def tiny(*fetches: Callable[[Path, Sequence[str]], dict[str, bytes]]) -> Collection:
    sources = tuple(Source(f"source {number}", fetch) for number, fetch in enumerate(fetches, 1))
    return Collection("mnist", DIGESTS, sources)


def test_files_are_fetched_once_and_their_origin_remembered(tmp_path: Path) -> None:
    source = Giving(GOOD)
    first = load(tiny(source), tmp_path)
    second = load(tiny(source), tmp_path)
    assert first == second
    assert second.contents == GOOD
    assert second.provenance[sets.IDX_TEST] == {"sha256": DIGESTS[sets.IDX_TEST], "source": "source 1"}
    assert len(source.asked) == 1
    assert not (tmp_path / "mnist" / ".fetching").exists()


@pytest.mark.parametrize(
    "wrong", [GOOD[sets.IDX_TRAIN][:-1], b"", idx(500, 254)], ids=["cut", "empty", "other"]
)
def test_a_wrong_file_is_named_set_aside_and_fetched_anew(
    wrong: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = Giving(GOOD)
    load(tiny(source), tmp_path)
    path = tmp_path / "mnist" / sets.IDX_TRAIN
    for number in ("", "2"):  # a second wrong file does not overwrite the first
        path.write_bytes(wrong + number.encode())
        caplog.clear()
        assert load(tiny(source), tmp_path).contents == GOOD
        assert path.with_name(f"{path.name}.bad{number}").read_bytes() == wrong + number.encode()
        [warning] = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
        assert str(path) in warning
        assert f"{path.name}.bad{number}" in warning
    assert source.asked == [sorted(NAMES), [path.name], [path.name]]  # only what was wrong


def test_what_a_source_sends_is_checked_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    half_good = Giving(GOOD | {sets.IDX_TEST: b"<html>please log in</html>"})
    good = Giving(GOOD)
    assert load(tiny(failing, half_good, good), tmp_path).contents == GOOD
    assert good.asked == [[sets.IDX_TEST]]
    assert f"{sets.IDX_TEST} from source 2 has not the pinned checksum" in caplog.text


def test_when_nothing_can_be_had_one_line_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError) as failure:
        load(tiny(failing, Giving({})), tmp_path)
    message = str(failure.value)
    for part in (*NAMES, "no mirror answered", "source 2", "EVIDENCE_DATA", "data=digits"):
        assert part in message
    assert "\n" not in message


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(UserError, match=r"cannot be used.*EVIDENCE_DATA"):
        load(tiny(Giving(GOOD)), tmp_path / "file")


def test_a_read_only_folder_will_do_when_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load(tiny(Giving(GOOD)), tmp_path)

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(sources, "FileLock", refuse)  # the first write; root could not be refused otherwise
    assert load(tiny(), tmp_path).contents == GOOD
    (tmp_path / "mnist" / sets.IDX_TEST).unlink()
    with pytest.raises(UserError, match=r"mnist cannot be used \(Permission denied\): set EVIDENCE_DATA"):
        load(tiny(Giving(GOOD)), tmp_path)


def test_two_at_once_fetch_once(tmp_path: Path) -> None:
    giving = Giving(GOOD)

    def slow(scratch: Path, names: Sequence[str]) -> dict[str, bytes]:
        time.sleep(0.5)  # long enough for the other to come
        return giving(scratch, names)

    results: list[dict[str, bytes]] = []
    threads = [
        threading.Thread(target=lambda: results.append(load(tiny(slow), tmp_path).contents)) for _ in "ab"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert results == [GOOD, GOOD]
    assert len(giving.asked) == 1


def test_mnist_reads_what_was_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sets, "MNIST", tiny(Giving(GOOD)))
    dataset = mnist(tmp_path, 784, "stochastic")
    assert (len(dataset.train), len(dataset.valid), len(dataset.test)) == (100, 400, 10)
    assert (dataset.train == 255).all()
    assert (dataset.valid == 1).all()
    assert (dataset.test == 0).all()


def test_git_blob_ids_are_gits() -> None:
    assert has_digest(b"hello\n", "git:ce013625030ba8dba906f756967f9e9ca394464a")  # git hash-object
    assert not has_digest(b"hello", "git:ce013625030ba8dba906f756967f9e9ca394464a")


@pytest.fixture
def server() -> Iterator[tuple[str, dict[str, bytes]]]:
    """A server on this machine, its address, and the files it serves by path."""
    files: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = files.get(self.path)
            self.send_response(404 if content is None else 200)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http_server:
        thread = threading.Thread(target=http_server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{http_server.server_port}", files
        http_server.shutdown()
        thread.join()


def test_a_server_that_answers_anything_is_reachable(server: tuple[str, dict[str, bytes]]) -> None:
    address, _ = server
    assert mirrors.reachable(["http://127.0.0.1:9/", f"{address}/nothing"]) == [f"{address}/nothing"]


def test_files_come_from_the_web(server: tuple[str, dict[str, bytes]], tmp_path: Path) -> None:
    address, files = server
    files.update({f"/pinned/{name}": content for name, content in GOOD.items()})
    assert mirrors.from_web(f"{address}/pinned", tmp_path, NAMES) == GOOD
    with pytest.raises(mirrors.FAILURES):
        mirrors.from_web(f"{address}/elsewhere", tmp_path, NAMES)


def test_files_come_by_torchvisions_loader(
    server: tuple[str, dict[str, bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.datasets import MNIST

    address, files = server
    labels = {
        name.replace("images-idx3", "labels-idx1"): struct.pack(">II", 0x801, size) + bytes(size)
        for name, size in zip(NAMES, (500, 10), strict=True)
    }
    files.update({f"/{name}.gz": gzip.compress(content) for name, content in (GOOD | labels).items()})
    resources = [(path[1:], hashlib.md5(content).hexdigest()) for path, content in files.items()]
    monkeypatch.setattr(MNIST, "resources", resources)
    monkeypatch.setattr(MNIST, "mirrors", ["http://127.0.0.1:9/", f"{address}/"])
    assert mirrors.from_torchvision("MNIST", tmp_path, NAMES) == GOOD
    monkeypatch.setattr(MNIST, "mirrors", ["http://127.0.0.1:9/"])
    with pytest.raises(mirrors.Unavailable, match="no mirror answered"):
        mirrors.from_torchvision("MNIST", tmp_path / "again", NAMES)


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Puts a shell script in the place of a package client."""
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    (tmp_path / "bin").mkdir()
    (tmp_path / "scratch").mkdir()

    def install(name: str, script: str) -> None:
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "bin" / name).chmod(0o755)

    return install


def packed(path: Path, prefix: str, contents: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix == ".tgz" else "w") as archive:
        for name, content in contents.items():
            member = tarfile.TarInfo(f"{prefix}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def test_files_come_by_the_npm_client(client: Callable[[str, str], None], tmp_path: Path) -> None:
    package = packed(tmp_path / "package.tgz", "package/data", GOOD)
    client("npm", f'[ "$1 $2" = "pack made-up@1.0" ] && cp {package} made-up-1.0.tgz')
    fetch = partial(mirrors.from_npm, "made-up@1.0", "data")
    assert fetch(tmp_path / "scratch", NAMES) == GOOD
    with pytest.raises(mirrors.FAILURES):
        fetch(tmp_path / "scratch", ["labels"])  # not in the package


def test_files_come_by_the_debian_client(client: Callable[[str, str], None], tmp_path: Path) -> None:
    zipped = {f"{name}.gz": gzip.compress(content) for name, content in GOOD.items()}
    package = packed(tmp_path / "package.tar", "./usr/share/made-up", zipped)
    client("apt-get", '[ "$1 $2" = "download made-up" ] && touch made-up_1_all.deb')
    client("dpkg-deb", f"cat {package}")
    assert mirrors.from_debian("made-up", "usr/share/made-up", tmp_path / "scratch", NAMES) == GOOD


def test_a_client_that_fails_or_stands_still_is_ended(
    client: Callable[[str, str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch = partial(mirrors.from_npm, "made-up@1.0", "data", tmp_path / "scratch", NAMES)
    client("npm", "echo npm error code EAI_AGAIN >&2; echo npm error more >&2; exit 1")
    with pytest.raises(mirrors.Unavailable, match=r"^npm error code EAI_AGAIN$"):
        fetch()
    monkeypatch.setattr(mirrors, "STALL", 0.3)
    client("npm", f"echo $$ > {tmp_path}/pid; exec sleep 60")
    with pytest.raises(mirrors.Unavailable, match=r"npm stood still for 0\.3 s"):
        fetch()
    pid = (tmp_path / "pid").read_text().strip()
    assert subprocess.run(["kill", "-0", pid], capture_output=True, check=False).returncode != 0
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    with pytest.raises(mirrors.Unavailable, match="npm is not installed"):
        fetch()
