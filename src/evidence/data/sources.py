"""A number computed from the wrong bytes is worse than none: no file is used without its pinned checksum.

The check is made on the very bytes that are handed on, each time they are read. A file that fails it is
named, set aside and fetched anew; a file gets its name whole or not at all; one process at a time fetches.
"""

import hashlib
import logging
import os
import shutil
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock

from evidence.data.mirrors import FAILURES, download
from evidence.errors import UserError

log = logging.getLogger(__name__)


class Collection(NamedTuple):
    """Files that belong together, in a folder of this name inside the data folder."""

    name: str
    digests: dict[str, str]  # file name -> SHA-256, or the git blob id as "git:..."
    sources: tuple[str, ...]  # addresses with {} for the file's name, in the order in which they are tried


class Verified(NamedTuple):
    """Contents by file name, and for each file its SHA-256 and where it came from."""

    contents: dict[str, bytes]
    provenance: dict[str, dict[str, str]]


def load(collection: Collection, folder: str | Path) -> Verified:
    """The collection's files out of the data folder, fetched there first if need be.

    Raises UserError where a file is neither there nor to be fetched, or the folder cannot be used.
    """
    place, failures = Path(folder) / collection.name, []
    try:
        contents = _sound(collection, place)
        if len(contents) < len(collection.digests):  # a complete folder may be read-only
            place.mkdir(parents=True, exist_ok=True)
            with FileLock(place / ".lock"):
                failures = _fetch_missing(collection, place)
                contents = _sound(collection, place)
    except OSError as error:
        raise UserError(
            f"the data folder {place} cannot be used ({error.strerror or error}): "
            f"set EVIDENCE_DATA to a folder that can be read and written"
        ) from error
    if missing := [name for name in collection.digests if name not in contents]:
        raise UserError(
            f"{collection.name}: {', '.join(missing)} not in {place} nor to be had ({'; '.join(failures)}): "
            f"put the files there, or set EVIDENCE_DATA to a folder that holds {collection.name}/ with them, "
            f"or use data=digits, which needs no network"
        )
    provenance = {}
    for name, content in contents.items():
        origin = place / f"{name}.source"
        source = origin.read_text() if origin.exists() else "found in the data folder"
        provenance[name] = {"sha256": hashlib.sha256(content).hexdigest(), "source": source}
    return Verified(contents, provenance)


def has_digest(content: bytes, digest: str) -> bool:
    """Whether the content's SHA-256, or for "git:..." its git blob id, is the one given."""
    if digest.startswith("git:"):
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest() == digest.removeprefix("git:")
    return hashlib.sha256(content).hexdigest() == digest


def _sound(collection: Collection, place: Path) -> dict[str, bytes]:
    """Contents of the files that are there and right."""
    contents = {}
    for name, digest in collection.digests.items():
        path = place / name
        if path.exists() and has_digest(content := path.read_bytes(), digest):
            contents[name] = content
    return contents


def _fetch_missing(collection: Collection, place: Path) -> list[str]:
    """Fetch what is not there or wrong, under the collection's lock; what went wrong, source by source."""
    sound = _sound(collection, place)  # again: another process may have fetched it by now
    for name in collection.digests:
        if name not in sound and (place / name).exists():
            _set_aside(place / name)
    failures = []
    for source in collection.sources:
        missing = [name for name in collection.digests if not (place / name).exists()]
        if not missing:
            break
        log.info("fetching %s from %s", collection.name, source.format("*"))
        scratch = place / ".fetching"
        shutil.rmtree(scratch, ignore_errors=True)  # a killed process may have left one
        scratch.mkdir()
        try:
            for name in missing:
                address = source.format(name)
                _retrieve(address, collection.digests[name], scratch / name)
                (place / f"{name}.source").write_text(address)
                os.replace(scratch / name, place / name)
        except FAILURES as error:
            failures.append(f"{address}: {' '.join(str(error).split())}")
        except ValueError:  # pooch's word for a wrong checksum
            log.warning("%s has not the pinned checksum: not used", address)
            failures.append(f"{address} has not the pinned checksum")
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return failures


def _retrieve(address: str, digest: str, path: Path) -> None:
    """Fetch the file to `path`; ValueError where it has not the digest."""
    import pooch  # slow to import, and needed only once

    pooch.get_logger().setLevel(logging.WARNING)  # what is fetched is said already
    known = None if digest.startswith("git:") else digest  # pooch knows no git ids
    pooch.retrieve(address, known, path.name, path.parent, downloader=download)
    if known is None and not has_digest(path.read_bytes(), digest):
        raise ValueError(digest)


def _set_aside(path: Path) -> None:
    aside, number = path.with_name(f"{path.name}.bad"), 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}.bad{number}")
    log.warning("%s is truncated or not the right file: set aside as %s and fetched anew", path, aside.name)
    path.rename(aside)
