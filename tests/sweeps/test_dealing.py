"""Jobs of a sweep are dealt to the devices that there are, and packed by their memory."""

import sys
from pathlib import Path

import pytest
import torch
from made_up import stand_in
from runs import CONF, SMALL, directories

from evidence.cli.command_line import main
from evidence.config import compose
from evidence.sweeps import packed

WORDS = ["-m", *SMALL, "device=auto", "tracking=none", "objective=vae,iwae", "seed=0,1"]


@pytest.mark.parametrize(
    ("forms", "devices", "expected"),
    [
        ("aaa", 1, [[0, 1, 2]]),
        ("abab", 1, [[0, 2, 1, 3]]),
        ("abab", 2, [[0, 2], [1, 3]]),
        ("aaaa", 2, [[0, 1], [2, 3]]),
        ("aaabbbccc", 3, [[0, 1, 2], [3, 4, 5], [6, 7, 8]]),
        ("aaaaab", 2, [[0, 1, 2], [3, 4, 5]]),
        ("ab", 4, [[0], [1]]),
    ],
)
def test_jobs_of_one_form_share_a_device_and_no_device_is_idle(
    forms: str, devices: int, expected: list[list[int]]
) -> None:
    assert packed.deal(forms, devices) == expected


@pytest.mark.parametrize("devices", range(1, 9))
@pytest.mark.parametrize("number", [1, 7, 24])
def test_each_job_is_dealt_once_and_no_device_has_twice_its_share(number: int, devices: int) -> None:
    forms = [each * each % 5 for each in range(number)]
    shares = packed.deal(forms, devices)
    assert sorted(each for share in shares for each in share) == list(range(number))
    assert max(map(len, shares)) <= 2 * -(-number // devices)


def test_each_gpu_has_a_process_of_its_own(
    root: Path, monkeypatch: pytest.MonkeyPatch, no_figures: None
) -> None:
    """Two GPUs are reported; the processes find none, and compute on the CPU."""
    monkeypatch.setattr(sys, "argv", ["run.py"])
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(packed, "_memory", lambda gpus: 2**33)
    assert main([*WORDS, "hydra/launcher=packed"], CONF) == 0
    found = {each.folder.name: each.read() for each in directories(root)}
    assert [each.status for each in found.values()] == ["FINISHED"] * 4
    processes = {name: each.process.pid for name, each in found.items()}
    assert len(set(processes.values())) == 2
    for objective in ("vae", "iwae"):
        assert len({pid for name, pid in processes.items() if name.startswith(objective)}) == 1


@pytest.mark.parametrize(
    ("gpus", "word", "expected"), [(1, [], True), (0, [], False), (1, ["hydra/launcher=basic"], False)]
)
def test_a_sweep_is_packed_by_itself_where_there_is_a_gpu(
    gpus: int, word: list[str], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    arguments, _ = compose.read_arguments([*WORDS, *word])
    request = compose.request(CONF, arguments)
    assert request.is_packed == expected
    assert ("hydra/launcher=packed" in request.launcher_overrides) == expected


def test_the_plan_says_what_is_stacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in(tmp_path, monkeypatch)
    words = ["objective=vae,iwae", "trainer.learning_rate=0.001,0.002", "k=1", "plan=true"]
    assert main(["-m", *words, "hydra/launcher=packed"], CONF) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if "objective=" in line]
    assert [row[4] for row in rows] == ["a", "a", "b", "b"]
    assert main(["-m", *words], CONF) == 0
    assert "stack" not in capsys.readouterr().out
