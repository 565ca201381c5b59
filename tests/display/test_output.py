"""What becomes of a command whose output cannot be written: its status and its record are what they would have been."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from runs import SMALL, only_directory

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, str(ROOT / "run.py"), *SMALL, "tracking=none"]
OUTPUTS = {  # each to be written by a shell
    "a reader that is gone": '"$@" 2>&1 | true; exit "${PIPESTATUS[0]}"',
    "closed streams": 'exec "$@" <&- >&- 2>&-',
    "a closed stderr": 'exec "$@" 2>&-',
    "a full disk": 'exec "$@" > /dev/full 2>&1',
    "an encoding that lacks characters": 'PYTHONIOENCODING=ascii exec "$@"',
    "a backend of Matplotlib that there is not": 'MPLBACKEND=none exec "$@"',
}


def in_shell(words: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    command = ["bash", "-c", words, "bash", *COMMAND, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.parametrize("output", OUTPUTS)
def test_output_that_cannot_be_written_ends_no_run(output: str, tmp_path: Path) -> None:
    done = in_shell(OUTPUTS[output], f"paths.outputs={tmp_path / 'outputs'}")
    assert done.returncode == 0
    assert only_directory(tmp_path).read().status == "FINISHED"
    assert "Traceback" not in done.stdout + done.stderr
    if "encoding" in output:
        assert " ? " in done.stdout
    if "Matplotlib" in output:
        assert "its figures are not drawn (ValueError: Key backend: 'none'" in done.stderr


def test_nor_does_it_fail_a_job_of_a_sweep(tmp_path: Path) -> None:
    sweep = [f"paths.outputs={tmp_path / 'outputs'}", "-m", "seed=0", "hydra/launcher=joblib"]
    done = in_shell('PYTHONIOENCODING=ascii exec "$@"', *sweep)
    assert done.returncode == 0
    assert "FINISHED" in done.stdout


def test_a_command_that_fails_says_so_by_its_status_alone(tmp_path: Path) -> None:
    assert in_shell('exec "$@" 2> /dev/full', f"paths.outputs={tmp_path}", "no_such_key=1").returncode == 2
