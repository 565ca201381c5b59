"""A signal to the process that was typed ends every process that trains for it, and no run is left as running."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import torch
from runs import CONF, directories

from evidence import project
from evidence.cli.command_line import main
from evidence.report import command
from evidence.report.study import Findings, Study
from evidence.sweeps import packed

LONG = ["-m", "data=digits", "trainer=smoke", "trainer.steps=1000000", "compile=false", "objective=vae,iwae"]
LONG += ["eval=smoke", "tracking=none"]


@pytest.fixture
def signum() -> signal.Signals:
    return signal.SIGTERM


@pytest.fixture
def terminated(root: Path, signum: signal.Signals) -> Iterator[None]:
    """This process gets the signal as soon as two runs have trained some steps."""
    ended = threading.Event()

    def wait() -> None:
        while len(list(root.glob("outputs/*/metrics.csv"))) < 2 and not ended.is_set():
            time.sleep(0.1)
        if not ended.is_set():
            os.kill(os.getpid(), signum)

    thread = threading.Thread(target=wait)
    thread.start()
    yield
    ended.set()
    thread.join()


def ended(root: Path) -> None:
    """Both runs are told as ended, and nothing goes on with them."""
    assert [each.read().status for each in directories(root)] == ["KILLED"] * 2
    lengths = {path: path.stat().st_size for path in root.glob("outputs/*/metrics.csv")}
    time.sleep(1)
    assert {path: path.stat().st_size for path in lengths} == lengths


@pytest.mark.parametrize("gpus", [0, 2])
def test_a_packed_sweep(gpus: int, root: Path, monkeypatch: pytest.MonkeyPatch, terminated: None) -> None:
    """Two GPUs are reported; the processes find none, and compute on the CPU."""
    monkeypatch.setattr(sys, "argv", ["run.py"])
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(packed, "_memory", lambda gpus: 2**33)
    device = "auto" if gpus else "cpu"
    assert main([*LONG, f"device={device}", "hydra/launcher=packed"], CONF) == 143
    ended(root)


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_sweep_of_joblib(
    status: int, root: Path, monkeypatch: pytest.MonkeyPatch, terminated: None
) -> None:
    monkeypatch.setattr(sys, "argv", ["run.py"])
    assert main([*LONG, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"], CONF) == status
    ended(root)


def test_a_studys_sweeps(root: Path, monkeypatch: pytest.MonkeyPatch, terminated: None) -> None:
    words = [*LONG, "hydra/launcher=packed", "device=cpu", f"paths.outputs={root / 'outputs'}"]
    empty = Findings(pd.DataFrame(), pd.DataFrame(), [], [], [])
    made = Study("made_up", "made-up", "Title", "Claim.", "Source", {}, lambda _: [words], lambda *_: empty)
    monkeypatch.setattr(command, "discovered", lambda _: [made])
    monkeypatch.setattr(project, "_root", CONF.parent)
    monkeypatch.setattr(sys, "argv", ["experiments", "made-up"])
    assert command.main(Path()) == 143
    ended(root)
