"""Reads the address of a store: which client's address it is, which file a SQLite store is, where artifacts lie."""

from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from evidence import passwords
from evidence.errors import UserError


class Place(NamedTuple):
    """What MLflow is told of a store.

    uri: the address for its client. It has no password of a server, which MLflow takes from the environment.
    file: of a SQLite store. artifacts: the folder of artifacts; a server chooses its own.
    """

    uri: str
    file: Path | None = None
    artifacts: Path | None = None


def default(root: Path) -> str:
    """The address of mlflow.db in a folder, whatever characters the folder's path has."""
    from sqlalchemy import URL

    return URL.create("sqlite", database=str(root.resolve() / "mlflow.db")).render_as_string()


def server(uri: str | None) -> str | None:
    """The address of a server's pages, without a password. None where `uri` is no server's."""
    return passwords.masked(uri).rstrip("/") if uri and uri.startswith(("http://", "https://")) else None


def read(uri: str, root: Path) -> Place:
    """What an address means. The artifacts of a database that is no SQLite file are in `mlruns` in `root`.

    Raises: UserError where it is no address, or where it names a store that keeps nothing.
    """
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    address = passwords.split(uri)
    if urlsplit(uri).scheme in ("http", "https"):
        return Place(address.bare if address.password else uri)
    if "://" not in uri:  # such as databricks
        if "@" in uri:
            raise UserError(
                "the MLflow store's address needs a scheme in front, such as http://: see MLFLOW_TRACKING_URI"
            )
        return Place(uri)
    try:
        url = make_url(address.whole)
    except ArgumentError:
        raise UserError(f"the MLflow store {uri} has no address that can be read: see its port") from None
    if url.get_backend_name() != "sqlite":
        if url.drivername == "postgresql" and not find_spec("psycopg") and find_spec("psycopg2"):
            url = url.set(drivername="postgresql+psycopg2")  # SQLAlchemy would take the other
        return Place(url.render_as_string(hide_password=False), artifacts=root.resolve() / "mlruns")
    name = url.database or ":memory:"
    if name.startswith("file:"):
        name = unquote(urlsplit(name).path)
    if name == ":memory:" or url.query.get("mode") == "memory":
        raise UserError(f"the MLflow store {uri} would keep nothing: name a file, or run with tracking=none")
    file = Path(name).resolve()
    return Place(uri, file, file.parent / "mlruns")
