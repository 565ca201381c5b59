"""From a command line to jobs and an exit status, with runs that are made up."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from made_up import CONF, MadeUp, fails_at, request, stand_in

from evidence.cli.command_line import main
from evidence.config import compose
from evidence.config.settings import Settings
from evidence.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MadeUp:
    monkeypatch.chdir(tmp_path)
    return stand_in(tmp_path, monkeypatch)


def plan(*overrides: str) -> list[Settings]:
    return [job.settings for job in request(*overrides).jobs]


@pytest.mark.parametrize(
    "overrides",
    [
        *(
            [f"{group.name}={file.stem}"]
            for group in CONF.iterdir()
            if group.is_dir()
            for file in group.glob("*.yaml")
        ),
        ["trainer.stages=null", "trainer.steps=7", "trainer.decay=0.5", "trainer.decay_every=3"],
        ["objective=critic", "objective.bound=null"],
        ["model.hidden=[[]]"],
    ],
    ids=" ".join,
)
def test_settings_are_the_resolved_config(overrides: list[str]) -> None:
    if overrides == ["model=semi_implicit"]:
        overrides = [*overrides, "objective=sivi"]
    arguments, _ = compose.read_arguments(overrides)
    config = compose.compose(CONF, arguments)
    assert compose.settings(config).model_dump(by_alias=True) == compose.resolved(config)


def test_own_classes_bring_their_own_keys() -> None:
    (settings,) = plan(
        "objective._target_=mine.Bound",
        "+objective.temper=2",
        "objective.num_exact=0",
        "~objective.num_exact",
    )
    assert settings.model_dump(by_alias=True)["objective"] == {
        "_target_": "mine.Bound",
        "name": "iwae",
        "k": 50,
        "temper": 2,
    }


def test_objective_brings_what_suits_it_and_the_command_line_wins() -> None:
    (uivi,) = plan("objective=uivi")
    assert (uivi.model.name, uivi.trainer.name, uivi.k) == ("semi_implicit", "uivi_quick", 1)
    (mine,) = plan("objective=uivi", "trainer=smoke", "k=3")
    assert (mine.model.name, mine.trainer.name, mine.k) == ("semi_implicit", "smoke", 3)


def test_a_run_leaves_nothing_of_hydras(runs: MadeUp, tmp_path: Path) -> None:
    before = {path.name for path in ROOT.iterdir()}
    assert main(["objective=vae", "seed=3"], CONF) == 0
    assert [(run.objective.name, run.seed) for run in runs.started] == [("vae", 3)]
    assert [path.name for path in tmp_path.iterdir()] == ["it's the root"]
    assert not ({path.name for path in ROOT.iterdir()} - before) & {"outputs", "multirun", ".hydra"}


@pytest.mark.parametrize(
    "argv",
    [
        ["objective=vae,iwae", "-m", "k=1,5"],
        ["hydra.mode=MULTIRUN", "objective=vae,iwae", "k=range(1,6,4)"],
    ],
    ids=" ".join,
)
def test_sweep_runs_every_combination(argv: list[str], runs: MadeUp, tmp_path: Path) -> None:
    assert main(argv, CONF) == 0
    assert [(run.objective.name, run.k) for run in runs.started] == [
        ("vae", 1),
        ("vae", 5),
        ("iwae", 1),
        ("iwae", 5),
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["it's the root"]


def test_sweep_over_a_key_that_the_swept_choices_bring(runs: MadeUp) -> None:
    assert main(["-m", "objective=uivi,sivi", "model.noise=choice(20)"], CONF) == 0
    assert [run.model.model_dump()["noise"] for run in runs.started] == [20, 20]


def test_grid_in_an_experiment_file_is_checked_whole(
    runs: MadeUp, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    conf = shutil.copytree(CONF, tmp_path / "conf")
    (conf / "experiment").mkdir(exist_ok=True)
    grid = "hydra: {mode: MULTIRUN, sweeper: {params: {k: '1,5', seed: '0,1'}}}"
    (conf / "experiment" / "grid.yaml").write_text(f"# @package _global_\n{grid}\n")
    assert main(["experiment=grid", "seed=0,-1"], conf) == 2
    said = "evidence: job 'k=1 seed=-1 experiment=grid': seed=-1: must be at least 0\n"
    assert capsys.readouterr().err == said
    assert not runs.started
    assert main(["experiment=grid", "seed=7"], conf) == 0
    assert [(run.k, run.seed) for run in runs.started] == [(1, 7), (5, 7)]


def test_failed_run_says_so_in_one_line(
    runs: MadeUp, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_data(settings: Settings) -> None:
        raise UserError("no MNIST in data/: set EVIDENCE_DATA")

    def fault(settings: Settings) -> None:
        raise ZeroDivisionError("three\nlines\nlong")

    runs.compute = no_data
    assert main([], CONF) == 1
    assert capsys.readouterr().err == "evidence: no MNIST in data/: set EVIDENCE_DATA\n"
    runs.compute = fault
    assert main([], CONF) == 1
    said = capsys.readouterr().err
    assert re.fullmatch(
        r"evidence: test_command_line\.py: ZeroDivisionError: three lines long \(line \d+\)"
        r" \(HYDRA_FULL_ERROR=1 shows the traceback\)\n",
        said,
    )
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    assert main([], CONF) == 1
    assert "Traceback" in capsys.readouterr().err


def test_failed_job_does_not_stop_a_sweep(runs: MadeUp) -> None:
    runs.compute = fails_at(2)
    assert main(["-m", "seed=1,2,3"], CONF) == 1
    assert [run.seed for run in runs.started] == [1, 2, 3]
    assert main([], CONF) == 0  # the failure is not remembered


@pytest.mark.parametrize(
    ("number", "status", "said"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
)
def test_signals_stop_a_sweep(
    number: signal.Signals,
    status: int,
    said: str,
    runs: MadeUp,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def stopped(settings: Settings) -> None:
        os.kill(os.getpid(), number)
        time.sleep(5)

    runs.compute = stopped
    handler = signal.getsignal(number)
    assert main(["-m", "k=1,2"], CONF) == status
    assert len(runs.started) == 1
    assert capsys.readouterr().err.endswith(f"\nevidence: {said}\n")
    assert signal.getsignal(number) is handler


def test_cfg_shows_the_config(runs: MadeUp, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["objective=vae", "--cfg", "job", "--resolve"], CONF) == 0
    shown = capsys.readouterr().out
    assert "_target_: evidence.objectives.ELBO" in shown
    assert "data_dim: 784" in shown
    assert not runs.started


def test_help_lists_what_is_in_conf(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    conf = shutil.copytree(CONF, tmp_path / "conf")
    (conf / "model" / "mine.yaml").write_text("# Seven layers.\nname: mine\n")
    (conf / "experiment").mkdir(exist_ok=True)
    (conf / "experiment" / "table_9.yaml").write_text("# @package _global_\n# The ninth table.\n")
    assert main(["k=3", "--help"], conf) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["mine", "Seven", "layers."] in lines
    assert ["table_9", "The", "ninth", "table."] in lines
    assert any(line[:2] == ["*", "iwae"] for line in lines)
    assert main(["-h"], CONF) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 110


@pytest.mark.parametrize("columns", ["70", "110"])
def test_help_has_every_word_of_a_choice_within_the_width(
    columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert main(["--help"], CONF) == 0
    _, groups, _ = re.split(r"^Groups and .*$|^Keys that .*$", capsys.readouterr().out, flags=re.MULTILINE)
    assert "..." not in groups
    assert "400,000 steps of 100, lr g / (1 + sqrt(G)) with G = 0.9 G + 0.1 g^2." in " ".join(groups.split())
    assert max(map(len, groups.splitlines())) <= int(columns)


def command(*argv: str, cwd: Path, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """run.py in a process of its own."""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    words = [sys.executable, *options, str(ROOT / "run.py"), *argv]
    return subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, timeout=60)


def test_help_imports_nothing_slow(tmp_path: Path) -> None:
    ended = command("--help", cwd=tmp_path, options=("-X", "importtime"))
    imported = {line.rpartition("|")[2].strip() for line in ended.stderr.splitlines()}
    assert ended.returncode == 0
    assert "evidence.cli.help" in imported
    assert not imported & {"torch", "mlflow", "hydra", "pydantic", "omegaconf"}


@pytest.mark.parametrize("argv", [["--info", "searchpath"], ["--hydra-help"]], ids=" ".join)
def test_hydras_own_flags_work(argv: list[str], tmp_path: Path) -> None:
    ended = command(*argv, cwd=tmp_path)
    assert ended.returncode == 0
    assert ended.stdout
    assert not ended.stderr
    assert not list(tmp_path.iterdir())


def test_bad_input_comes_before_torch(tmp_path: Path) -> None:
    ended = command("k=0", cwd=tmp_path, options=("-X", "importtime"))
    imported = {line.rpartition("|")[2].strip() for line in ended.stderr.splitlines()}
    assert ended.returncode == 2
    assert ended.stderr.endswith("evidence: k=0: must be at least 1\n")
    assert "evidence.config" in imported
    assert not imported & {"torch", "mlflow", "numpy", "pandas"}
    assert not list(tmp_path.iterdir())


def test_times_of_the_first_answer(tmp_path: Path) -> None:
    """Half a second for help, two for bad input: of the processor, for a machine has other work too."""
    for argv, seconds in ((["--help"], 0.5), (["objectve=iwae"], 2.0)):
        before = os.times()
        command(*argv, cwd=tmp_path)
        after = os.times()
        taken = after.children_user + after.children_system - before.children_user - before.children_system
        assert taken < seconds
