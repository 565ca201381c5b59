"""Sweeps on the engines that exist: what is refused beforehand, how many jobs at a time, and real jobs."""

import importlib.util
import os
import re
from pathlib import Path
from typing import Any

import joblib
import pytest
import submitit
import torch
from joblib.externals import loky
from runs import CONF, SMALL, directories, said

from evidence import project
from evidence.cli.command_line import main
from evidence.config import launchers
from evidence.records import checkpoints

ROOT = Path(__file__).resolve().parents[2]
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def engine(plugin: str, cls: str = "Launcher", **keys: Any) -> dict[str, Any]:
    return {"_target_": f"hydra_plugins.{plugin}.module.{cls}", **keys}


def ray(address: str | None = None, **remote: float) -> dict[str, Any]:
    return engine(launchers.RAY, ray={"init": {"address": address}, "remote": {"num_gpus": 0} | remote})


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, where every trace of a sweep would be."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("choice", "package"),
    [
        ("hydra/launcher=joblib", "joblib-launcher"),
        ("hydra/launcher=ray", "ray-launcher"),
        ("hydra/launcher=submitit_slurm", "submitit-launcher"),
        ("hydra/launcher=submitit_local", "submitit-launcher"),
        ("hydra/sweeper=optuna", "optuna-sweeper"),
    ],
)
def test_a_missing_plugin_is_named(
    choice: str,
    package: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if "hydra_plugins" in name else find(name)
    )
    assert main(["-m", *SMALL, "seed=0,1", choice], CONF) == 2
    assert said(capsys) == [f"evidence: {choice} needs another package: pip install hydra-{package}"]
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ("hydra/launcher=joblib hydra.launcher.n_jobs=0", "hydra.launcher.n_jobs=0: must be at least 1"),
        (
            "hydra/launcher=joblib hydra.launcher.n_jobs=all",
            "hydra.launcher.n_jobs=all: must be a whole number",
        ),
        ("hydra/launcher=joblib hydra.launcher.n_job=2", "did you mean 'hydra.launcher.n_jobs'?"),
        (
            "hydra/launcher=submitit_local hydra.launcher.timeout_min=2h",
            "timeout_min=2h: must be a whole number",
        ),
        ("hydra/launcher=submitit_slurm", "no srun here"),
        ("hydra/launcher=jobib", "did you mean 'hydra/launcher=joblib'?"),
    ],
)
def test_a_launcher_told_nonsense_is_one_line(
    wrong: str, line: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(folder))  # no SLURM
    assert main(["-m", *SMALL, "seed=0,1", *wrong.split()], CONF) == 2
    (complaint,) = said(capsys)
    assert line in complaint
    assert list(folder.iterdir()) == []


def test_jobs_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joblib, "cpu_count", lambda: 8)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    at_a_time, of_joblib = launchers.at_a_time, lambda number: engine(launchers.JOBLIB, n_jobs=number)
    assert at_a_time(engine("core_plugins"), 100, "cpu") == 1
    assert at_a_time(of_joblib(None), 100, "cpu") == 8
    assert at_a_time(of_joblib(None), 3, "cpu") == 3
    assert at_a_time(of_joblib(None), 100, "auto") == 2
    assert at_a_time(of_joblib(5), 100, "auto") == 5
    assert at_a_time(of_joblib(99), 100, "auto") == 8
    assert at_a_time(ray(num_cpus=3), 100, "cpu") == 2
    assert at_a_time(ray(num_cpus=16), 100, "cpu") == 1
    assert at_a_time(engine(launchers.SUBMITIT, array_parallelism=64), 100, "cpu") == 64
    assert at_a_time(engine(launchers.SUBMITIT), 100, "cpu") == 100


def test_a_ray_of_our_own_stays_on_loopback_and_a_cluster_must_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: True)  # as if Ray were installed
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "before")
    monkeypatch.delenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(launchers.UserError, match=r"no Ray answers at 127\.0\.0\.1:1: Connection refused"):
        launchers.prepare("launcher", "ray", ray("127.0.0.1:1", num_cpus=1))
    assert "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER" not in os.environ
    launchers.prepare("launcher", "ray", ray(num_cpus=1))
    assert os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "0"


def sweep(folder: Path, *words: str) -> int:
    """Two small jobs, whose processes find neither pytest's settings nor threads told by whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT / "src"))
        for name in THREADS:
            patch.delenv(name, raising=False)
        outputs = f"paths.outputs={folder / 'outputs'}"
        return main(["-m", *SMALL, "tracking=none", "seed=0,1", outputs, *words], CONF)


def threads(folder: Path) -> list[int]:
    """With how many threads each run has computed, which was not in this process."""
    states = [checkpoints.load(max(directory.checkpoints().items())[1]) for directory in directories(folder)]
    assert os.getpid() not in [directory.read().process.pid for directory in directories(folder)]
    return [state["execution"]["threads"] for state in states]


@pytest.mark.skipif(joblib.cpu_count() == 1, reason="a single core runs one job at a time, in this process")
def test_joblib_divides_the_cores(folder: Path) -> None:
    try:
        assert sweep(folder, "hydra/launcher=joblib") == 0
    finally:
        loky.get_reusable_executor().shutdown(wait=True)
    assert threads(folder) == [max(1, joblib.cpu_count() // 2)] * 2


def test_submitit_runs_jobs_here(folder: Path) -> None:
    assert sweep(folder, "hydra/launcher=submitit_local") == 0
    assert threads(folder) == [1, 1]
    printed = [path.read_text() for path in folder.glob("outputs/.sweeps/*/submitit/*/*_log.out")]
    assert len([text for text in printed if "Job completed successfully" in text]) == 2


OWN = """
from evidence.objectives import ELBO

class Mine(ELBO):
    pass
"""


@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_the_processes_of_jobs_have_the_configs_the_root_and_the_modules_of_the_sweep(
    launcher: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The configs of --config-dir and in place of a plugin's own, the root, and the modules beside run.py."""
    for name in ("root", "elsewhere", "it's configs/trainer"):
        (folder / name).mkdir(parents=True)
    (folder / "root" / "own.py").write_text(OWN)
    (folder / "it's configs" / "trainer" / "mine.yaml").write_text(
        "defaults: [smoke]\nname: mine\nsteps: 7\n"
    )
    monkeypatch.setattr(project, "_root", folder / "root")
    monkeypatch.syspath_prepend(folder / "root")  # as for run.py
    monkeypatch.chdir(folder / "elsewhere")
    own = ["objective=vae", "objective._target_=own.Mine", "trainer=mine", "trainer.steps=7"]
    words = [*own, f"hydra/launcher={launcher}", "--config-dir=../it's configs", "paths.outputs=outputs"]
    try:
        assert sweep(folder, *words) == 0
    finally:
        loky.get_reusable_executor().shutdown(wait=True)
    found = [directory.read() for directory in directories(folder / "root")]
    assert [(record.status, record.steps) for record in found] == [("FINISHED", 7)] * 2
    assert list((folder / "elsewhere").iterdir()) == []


def test_slurm_is_told_what_the_config_says(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripts = []

    def submit(executor: submitit.AutoExecutor, *jobs: Any) -> list[Any]:
        scripts.append(executor._executor._make_submission_file_text("run this", "id"))
        return []

    commands = folder / "commands"
    commands.mkdir()
    (commands / "srun").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(commands), prepend=os.pathsep)
    monkeypatch.setattr(submitit.AutoExecutor, "map_array", submit)
    words = ["hydra.launcher.partition=gpu", "hydra.launcher.gpus_per_node=1", "name=study"]
    assert sweep(folder, "hydra/launcher=submitit_slurm", *words) == 1  # no job has begun
    (script,) = scripts
    launcher_overrides = dict(re.findall(r"^#SBATCH --([\w-]+)=(.*)$", script, re.MULTILINE))
    assert launcher_overrides["job-name"] == "study"
    assert launcher_overrides["partition"] == "gpu"
    assert launcher_overrides["gpus-per-node"] == "1"
    assert launcher_overrides["cpus-per-task"] == "4"
    assert launcher_overrides["mem"] == "16GB"
    assert launcher_overrides["time"] == "240"
    assert launcher_overrides["output"].startswith(f"{folder}/outputs/.sweeps/")
    assert script.index("export OMP_NUM_THREADS=$SLURM_CPUS_PER_TASK") < script.index("run this")


@pytest.mark.parametrize("kind", ["launcher", "sweeper"])
@pytest.mark.parametrize("target", ["Basic", "no_such.Launcher", "os.getcwd", "pathlib.Path", "3"])
def test_a_class_that_is_none_of_hydras_is_one_line(
    kind: str, target: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["-m", *SMALL, "seed=0,1", f"hydra.{kind}._target_={target}"], CONF) == 2
    assert said(capsys) == [
        f"evidence: hydra.{kind}._target_={target}: must be the full name of a {kind} of Hydra's"
    ]
    assert not any(folder.iterdir())
