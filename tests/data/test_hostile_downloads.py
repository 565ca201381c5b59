"""What comes from elsewhere is verified before it is opened, and an archive cannot say where its files go.

And nothing of ours can be reached from elsewhere: no run listens, and MLflow's pages only on this machine.
"""

import gzip
import io
import os
import re
import struct
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import scipy.io
from file_server import Served, served

from evidence.data import fashion_mnist, mirrors, mnist, mnist_fixed, omniglot, sets
from evidence.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


def never(*args: object, **kwargs: object) -> None:
    pytest.fail("opened before it was verified")


@pytest.fixture
def server() -> Iterator[Served]:
    with served() as state:
        yield state


@pytest.mark.parametrize(
    ("collection", "dataset"),
    [
        ("MNIST", partial(mnist, pixels=784, binarization="stochastic")),
        ("FASHION_MNIST", partial(fashion_mnist, pixels=784, binarization="threshold")),
        ("OMNIGLOT", partial(omniglot, pixels=784, binarization="stochastic")),
        ("MNIST_FIXED", partial(mnist_fixed, pixels=784)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_no_reader_sees_a_file_that_is_not_the_pinned_one(
    collection: str,
    dataset: Callable[[Path], object],
    server: Served,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    forged = struct.pack(">IIII", 0x803, 500, 28, 28) + bytes(500 * 784)  # which a reader would take
    real = getattr(sets, collection)
    forger = server.put("forged", dict.fromkeys(real.digests, forged))
    monkeypatch.setattr(sets, collection, real._replace(sources=(forger,)))
    monkeypatch.setattr(sets, "_idx_images", never)
    monkeypatch.setattr(scipy.io, "loadmat", never)
    with pytest.raises(UserError, match=r"/forged/\S+ has not the pinned checksum"):
        dataset(tmp_path)
    folder = tmp_path / collection.lower()
    assert [path.name for path in folder.iterdir() if path.name != ".lock"] == []
    for name in real.digests:
        (folder / name).write_bytes(forged)  # nor one that was put there
    with pytest.raises(UserError, match="has not the pinned checksum"):
        dataset(tmp_path)


def test_what_unpacks_to_too_much_is_cut(
    server: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirrors, "LARGEST", 1000)
    address = server.put("1", {"images.gz": gzip.compress(bytes(10**6))}).format("images.gz")
    mirrors.download(address, str(tmp_path / "images"))
    assert (tmp_path / "images").read_bytes() == bytes(1000)


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, size
    return info


@pytest.mark.parametrize("kind", ["npm", "debian"])
def test_an_archive_is_read_by_name_and_writes_nothing(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, end = ("package/data", "") if kind == "npm" else ("./share", ".gz")
    secret = tmp_path / "secret"
    secret.write_text("of this machine")
    content = io.BytesIO(b"plain") if kind == "npm" else io.BytesIO(gzip.compress(b"plain"))
    with tarfile.open(tmp_path / "archive", "w") as archive:
        for path in ("../outside", f"{folder}/../../../../outside", str(tmp_path / "absolute"), "planted"):
            archive.addfile(member(path, size=3), io.BytesIO(b"bad"))
        archive.addfile(member(f"{folder}/images{end}", size=len(content.getvalue())), content)
        archive.addfile(member(f"{folder}/link{end}", tarfile.SYMTYPE, str(secret)))
        archive.addfile(member(f"{folder}/hard{end}", tarfile.LNKTYPE, str(secret)))
        archive.addfile(member(f"{folder}/folder{end}", tarfile.DIRTYPE))
        archive.addfile(member(f"{folder}/pipe{end}", tarfile.FIFOTYPE))
    scripts = {
        "npm": f"cp {tmp_path}/archive made-up-1.0.tgz",
        "apt-get": "touch made-up_1_all.deb",
        "dpkg-deb": f"cat {tmp_path}/archive",
    }
    (tmp_path / "bin").mkdir()
    for name, script in scripts.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    scratch = tmp_path / "deep" / "scratch"
    scratch.mkdir(parents=True)
    before = set(tmp_path.rglob("*"))
    address = "npm:made-up@1.0/data" if kind == "npm" else "debian:made-up/share"

    def fetch(name: str) -> bytes:
        mirrors.download(f"{address}/{name}{end}", str(scratch / "file"))
        return (scratch / "file").read_bytes()

    assert fetch("images") == b"plain"
    for name in ("link", "hard", "folder", "pipe", "../../outside"):
        with pytest.raises(mirrors.FAILURES):
            fetch(name)
    left = {path.name for path in set(tmp_path.rglob("*")) - before}
    assert left == {"client.log", "made-up-1.0.tgz" if kind == "npm" else "made-up_1_all.deb"}


def test_mlflows_pages_are_shown_on_this_machine_only() -> None:
    commands = re.findall(r"mlflow (?:ui|server).*", (ROOT / "Makefile").read_text(encoding="utf-8"))
    assert commands
    assert all("--host 127.0.0.1" in command for command in commands)


@pytest.mark.slow
def test_a_run_listens_nowhere(tmp_path: Path) -> None:
    program = """
import sys
from pathlib import Path
sys.addaudithook(lambda event, args: event == "socket.bind" and print("bound", args[1][0], file=sys.stderr))
from evidence.cli.command_line import main
sys.exit(main(sys.argv[2:], Path(sys.argv[1])))
"""
    small = ["data=digits", "trainer=smoke", "trainer.steps=10", "eval=smoke", "eval.images=20", "k=2"]
    places = [f"paths.outputs='{tmp_path}/outputs'", f"tracking.uri='sqlite:///{tmp_path}/mlflow.db'"]
    words = [sys.executable, "-c", program, str(ROOT / "conf"), *small, *places]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    ended = subprocess.run(
        words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert {*re.findall("^bound (.*)$", ended.stderr, re.MULTILINE)} <= {"127.0.0.1", "::1"}
    assert (tmp_path / "mlflow.db").exists()
