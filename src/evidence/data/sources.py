"""A number computed from the wrong bytes is worse than none: no file is used without its pinned checksum.

The check is made on the very bytes that are handed on, each time they are read. A file that fails it is
named, set aside and fetched anew; a file gets its name whole or not at all; one process at a time fetches.
"""

import hashlib
import logging
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock

from evidence.data.mirrors import FAILURES
from evidence.errors import UserError

log = logging.getLogger(__name__)


class Source(NamedTuple):
    """One place to fetch from: `fetch(scratch folder, names)` gives contents by name."""

    label: str
    fetch: Callable[[Path, Sequence[str]], dict[str, bytes]]


class Collection(NamedTuple):
    """Files that belong together, in a folder of this name inside the data folder."""

    name: str
    digests: dict[str, str]  # file name -> SHA-256, or the git blob id as "git:..."
    sources: tuple[Source, ...]  # in the order in which they are tried


class Verified(NamedTuple):
    """Contents by file name, and for each file its SHA-256 and where it came from."""

    contents: dict[str, bytes]
    provenance: dict[str, dict[str, str]]


def load(collection: Collection, folder: str | Path) -> Verified:
    """The collection's files out of the data folder, fetched there first if need be.

    Raises UserError where a file is neither there nor to be fetched, or the folder cannot be used.
    """
    home = Path(folder) / collection.name
    try:
        contents = _sound(collection, home)
        if len(contents) < len(collection.digests):  # a complete folder may be read-only
            home.mkdir(parents=True, exist_ok=True)
            with FileLock(home / ".lock"):
                contents = _mended(collection, home)
    except OSError as error:
        raise UserError(
            f"the data folder {home} cannot be used ({error.strerror or error}): "
            f"set EVIDENCE_DATA to a folder that can be read and written"
        ) from error
    provenance = {
        name: {"sha256": hashlib.sha256(content).hexdigest(), "source": _origin(home / name)}
        for name, content in contents.items()
    }
    return Verified(contents, provenance)


def has_digest(content: bytes, digest: str) -> bool:
    """Whether the content's SHA-256, or for "git:..." its git blob id, is the one given."""
    if digest.startswith("git:"):
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest() == digest.removeprefix("git:")
    return hashlib.sha256(content).hexdigest() == digest


def _sound(collection: Collection, home: Path) -> dict[str, bytes]:
    """Contents of the files that are there and right."""
    contents = {}
    for name, digest in collection.digests.items():
        try:
            content = (home / name).read_bytes()
        except FileNotFoundError:
            continue
        if has_digest(content, digest):
            contents[name] = content
    return contents


def _mended(collection: Collection, home: Path) -> dict[str, bytes]:
    """The collection made whole, under its lock."""
    contents = _sound(collection, home)  # again: another process may have fetched it by now
    for name in collection.digests:
        if name not in contents and (home / name).exists():
            _set_aside(home / name)
    scratch = home / ".fetching"
    failures = []
    for source in collection.sources:
        missing = [name for name in collection.digests if name not in contents]
        if not missing:
            break
        shutil.rmtree(scratch, ignore_errors=True)  # a killed process may have left one
        scratch.mkdir()
        log.info("fetching %s from %s", collection.name, source.label)
        try:
            fetched = source.fetch(scratch, missing)
            for name in missing:
                if not has_digest(fetched[name], collection.digests[name]):
                    log.warning("%s from %s has not the pinned checksum: not used", name, source.label)
                    failures.append(f"{source.label}: {name} has not the pinned checksum")
                    continue
                _install(fetched[name], home / name, scratch, source.label)
                contents[name] = fetched[name]
        except FAILURES as error:
            failures.append(f"{source.label}: {' '.join(str(error).split())}")
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    missing = [name for name in collection.digests if name not in contents]
    if missing:
        raise UserError(
            f"{collection.name}: {', '.join(missing)} not in {home} nor to be had ({'; '.join(failures)}): "
            f"put the files there, or set EVIDENCE_DATA to a folder that holds {collection.name}/ with them, "
            f"or use data=digits, which needs no network"
        )
    return contents


def _install(content: bytes, path: Path, scratch: Path, label: str) -> None:
    for target, data in ((_origin_path(path), label.encode()), (path, content)):
        temporary = scratch / f"{target.name}.new"
        temporary.write_bytes(data)
        os.replace(temporary, target)


def _set_aside(path: Path) -> None:
    aside, number = path.with_name(f"{path.name}.bad"), 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}.bad{number}")
    log.warning("%s is truncated or not the right file: set aside as %s and fetched anew", path, aside.name)
    path.rename(aside)


def _origin_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.source")


def _origin(path: Path) -> str:
    try:
        return _origin_path(path).read_text()
    except FileNotFoundError:
        return "found in the data folder"
