"""Which file, folder of artifacts and driver an address means, and what a server hears of a user and a password."""

import base64
import contextlib
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from mlflow import MlflowClient

from evidence import tracking
from evidence.errors import UserError
from evidence.tracking import addresses
from evidence.tracking.calls import store_errors


@pytest.mark.parametrize(
    ("uri", "file"),
    [
        ("sqlite:///a%20b.db?timeout=3", "a b.db"),
        ("sqlite+pysqlite:///below/c.db", "below/c.db"),
        ("sqlite:///file:d.db?uri=true&timeout=3", "d.db"),
    ],
)
def test_a_sqlite_store_is_the_file_that_its_address_names(
    uri: str, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tracking.prepare(tracking.Store(uri, "Default", tmp_path / "elsewhere"))
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {file, f"{file}.lock"}
    place = addresses.read(uri, tmp_path)
    assert place.artifacts == (tmp_path / file).parent / "mlruns"
    experiment = MlflowClient(place.uri).get_experiment_by_name("Default")
    assert experiment is not None
    assert experiment.artifact_location == (place.artifacts / "Default").as_uri()


def test_the_default_store_lies_in_any_folder_and_is_made_in_any(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "a b%20c?d#e"
    monkeypatch.setattr(tempfile, "tempdir", str(temporary := tmp_path / "t?m%20p"))
    temporary.mkdir()
    tracking.prepare(tracking.Store(None, "study", root))
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {"mlflow.db", "mlflow.db.lock"}
    assert (root / "mlflow.db").exists()


@pytest.mark.parametrize("uri", ["sqlite://", "sqlite:///:memory:", "sqlite:///file:x?mode=memory&uri=true"])
def test_a_store_in_memory_is_refused(uri: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="would keep nothing"):
        tracking.prepare(tracking.Store(uri, "study", tmp_path))


def test_a_database_has_its_artifacts_at_the_root_and_its_password_encoded(tmp_path: Path) -> None:
    place = addresses.read("postgresql://me:pa/ss@word@host:5432/db", tmp_path)
    assert place == ("postgresql+psycopg2://me:pa%2Fss%40word@host:5432/db", None, tmp_path / "mlruns")


@pytest.mark.parametrize(
    ("module", "remedy"),
    [
        ("psycopg2", "pip install psycopg2-binary"),
        ("MySQLdb", "pip install mysqlclient"),
        ("boto3", "pip install boto3"),
    ],
)
def test_a_missing_driver_is_named_with_its_remedy(module: str, remedy: str) -> None:
    with (
        pytest.raises(UserError, match=rf"{module} is not installed\): {remedy}") as caught,
        store_errors("mysql://me:secret@host/db"),
    ):
        raise ModuleNotFoundError(f"No module named '{module}'", name=module)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "uri", ["me:secret@host/db", "oracle://me:secret@host/db", "http://me:secret@host:x"]
)
def test_an_address_that_is_none_is_named_without_its_password(uri: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="MLflow store") as caught:
        tracking.prepare(tracking.Store(uri, "study", tmp_path))
    assert "secret" not in str(caught.value)


@contextlib.contextmanager
def answering(status: int, heard: list[str | None]) -> Iterator[str]:
    """A server that answers everything with a status. It appends the user and the password that it hears."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(self.headers["Authorization"])
            self.send_response(status)
            self.end_headers()
            self.wfile.write(b"You are not authenticated.")

        do_GET = do_POST  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_server_hears_user_and_password_and_only_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "other")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "own")
    heard: list[str | None] = []
    with answering(401, heard) as server:
        for user in ("me:pa/ss@word@", "me:pa%2Fss%40word@", ""):
            with pytest.raises(UserError, match=r"user or password .* MLFLOW_TRACKING_PASSWORD") as caught:
                tracking.prepare(tracking.Store(f"http://{user}{server}", "study", tmp_path))
            assert "word@" not in str(caught.value)
    said = [base64.b64decode(each.removeprefix("Basic ")).decode() for each in heard if each]
    assert said == ["me:pa/ss@word", "me:pa/ss@word", "other:own"]


def test_a_user_without_permission_is_told_so(tmp_path: Path) -> None:
    with answering(403, []) as server, pytest.raises(UserError, match=r"lacks the permission.*name="):
        tracking.prepare(tracking.Store(f"http://{server}", "study", tmp_path))
