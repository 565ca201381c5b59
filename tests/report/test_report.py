"""Runs as a DataFrame, what is said of a figure beside a published one, and the tables of Burda et al. 2015."""

import math
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import frames
import pandas as pd
import pytest
import runs

from evidence import report, tracking
from evidence.report import command, compare, frame, page, shown
from evidence.report.study import Claim, Findings, discovered
from experiments.iwae_table1 import study as table1
from experiments.iwae_table1 import tables
from experiments.iwae_table1.paper import PASSES

ROOT = Path(__file__).resolve().parents[2]
STUDIES = discovered(ROOT / "experiments")
PUBLISHED = pd.read_csv(table1.HERE / "published.csv")


def cells(*made: dict[str, Any]) -> pd.DataFrame:
    return tables.cells(tables.chosen(frames.frame(*made)).runs, PUBLISHED)


@pytest.mark.usefixtures("no_figures")
def test_runs_are_two_lines_of_python(root: Path) -> None:
    assert report.runs("study").empty
    assert runs.start("name=study") == 0
    assert runs.start("name=other", "seed=1") == 0
    runs.begin("name=study", "seed=2")

    found = report.runs("study")
    assert list(found["status"]) == ["KILLED", "FINISHED"]  # the latest first
    assert list(found["seed"]) == [2, 0]
    run = found.iloc[1]
    directory = next(directory for directory in runs.directories(root) if directory.folder.name == run["run"])
    assert {name: run[name] for name in runs.numbers(directory)} == runs.numbers(directory)
    assert (run["objective"], run["k"], run["stages"]) == ("iwae", 3, "60 steps")
    assert root / run["folder"] == directory.folder
    assert run["url"] is None  # the store is no server
    assert len(report.runs()) == 3
    assert list(frame.finished("study")["run"]) == [run["run"]]


def test_runs_that_are_not_ours_or_were_deleted_do_not_count(root: Path) -> None:
    store = tracking.Store(None, "study", root)
    seeds = [2**63 - 1, 2**63 - 2]  # as floats they would be one
    ours = [tracking.create_run(store, f"seed {seed}", {"record": str(seed)}) for seed in seeds]
    deleted = tracking.create_run(store, "deleted", {"record": "d"})
    foreign = tracking.create_run(store, "foreign", {"status": "RUNNING", "ended": "never"})
    for run, seed in zip(ours, seeds, strict=True):
        run.add_params({"seed": seed, "k": 5})
    foreign.add_params({"k": "many"})
    for run in (*ours, deleted, foreign):
        run.close("FINISHED")
    runs.client().delete_run(deleted.run_id)
    found = report.runs("study").set_index("run")
    assert set(found.index) == {"foreign", "seed 9223372036854775807", "seed 9223372036854775806"}
    assert found["seed"].dropna().tolist() == found.loc[found["record"].notna(), "record"].map(int).tolist()
    assert set(found["status"]) == {"FINISHED"}  # whatever a tag says
    assert "never" not in set(found["ended"])
    assert set(frame.finished("study")["run"]) == {"seed 9223372036854775807", "seed 9223372036854775806"}
    assert frame.finished("study")["seed"].nunique() == 2


def test_the_end_of_a_run_is_known_to_the_millisecond(root: Path) -> None:
    began = datetime(2026, 1, 2, tzinfo=UTC)
    run = tracking.create_run(tracking.Store(None, "study", root), "run", {"record": "r"}, began)
    assert report.runs("study")["ended"].isna().all()
    run.close("KILLED", datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC))
    assert report.runs("study")["ended"].item() == "2026-01-02T03:04:05.678+00:00"
    run.resume()
    assert report.runs("study")["ended"].isna().all()


def test_a_server_has_a_page_for_each_run(monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.entities import Run, RunData, RunInfo

    run = Run(RunInfo("a1", "7", "me", "FINISHED", 0, 1, "active"), RunData())
    assert tracking.page("http://me:secret@host:5000", run) == "http://host:5000/#/experiments/7/runs/a1"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://host")
    assert tracking.page(None, run) == "http://host/#/experiments/7/runs/a1"
    assert tracking.page("sqlite:///mlflow.db", run) is None


def test_a_cell_is_the_runs_that_went_furthest_and_were_scored_best_the_latest_of_each_seed() -> None:
    result = cells(
        {"stages": "2", "test/nll": 1.0},
        {"eval_samples": 500, "test/nll": 2.0},
        {"seed": 0, "test/nll": 3.0, "date": "2025-01-01"},
        {"seed": 0, "test/nll": 84.0},
        {"seed": 1, "test/nll": 85.0},
    ).iloc[0]
    assert result["seeds"] == 2
    assert result["nll"] == 84.5
    assert result["nll_sd"] == pytest.approx(math.sqrt(0.5))
    assert result["budget"] == "3280 of 3280 passes"
    assert result["runs"] == "iwae-50-8-0-2026-01-01; iwae-50-8-1-2026-01-01"
    assert (result["machine"], result["commit"]) == ("Fast, 2 threads", "0123456")


def test_a_cell_names_every_machine_and_commit_that_it_is_from() -> None:
    result = cells(
        {"seed": 2, "git_commit": "abcdef0123", "git_dirty": "true"},
        {"seed": 1},
        {"seed": 0, "processor": None},  # it was not recorded
    ).iloc[0]
    assert (result["machine"], result["commit"]) == ("cpu; Fast, 2 threads", "0123456; abcdef0+")


def test_lengths_are_those_of_the_schedule() -> None:
    assert compare.length("3", PASSES) == (13, "13 of 3280 passes")
    assert compare.length("8", PASSES) == (3280, "3280 of 3280 passes")
    assert compare.length("5000 steps") == (None, "5,000 steps")  # 5000 steps are no 5000 passes


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"test/nll": 84.78 + 0.49}, "within 0.5 nats; units within 2"),
        ({"test/nll": 84.78 + 0.51}, "worse by 0.51 nats; units within 2"),
        ({"test/nll": 84.78 - 0.60}, "better by 0.60 nats; units within 2"),
        ({"k": 1, "test/nll": 86.76 + 0.99, "test/active_units_1": 19.0}, "within 1 nats; units within 2"),
        ({"test/active_units_1": 22.0}, "within 0.5 nats; units differ"),
        ({"stages": "7"}, "short budget"),
        ({"k": 7}, "none published"),
    ],
)
def test_a_full_training_is_judged_by_what_reproductions_attain(changes: dict[str, Any], words: str) -> None:
    assert cells(changes)["verdict"].item() == words


def test_the_table_reads_as_the_papers() -> None:
    two = {
        "model": "two_layer",
        "test/active_units": 32.0,
        "test/active_units_1": 26.0,
        "test/active_units_2": 6.0,
    }
    read = tables.table(cells({"seed": 0}, {"seed": 1, "test/nll": 85.0}, two)).T
    one_layer, two_layers = read[0], read[1]
    assert one_layer[compare.NLL_OVER_SEEDS] == "84.90 ± 0.14"
    assert (one_layer["published NLL"], one_layer["difference"]) == ("84.78", "+0.12")
    assert (one_layer[compare.UNITS_OVER_SEEDS], one_layer["published units"]) == ("25 ± 0", "25")
    assert (two_layers[compare.UNITS_OVER_SEEDS], two_layers["published units"]) == ("26 + 6", "26 + 7")


def grid(iwae: list[float], vae: list[float], units: list[float]) -> pd.DataFrame:
    made = [
        {
            "objective": objective,
            "k": k,
            "test/nll": nll,
            "test/active_units": count,
            "test/active_units_1": count,
        }
        for objective, values in (("iwae", iwae), ("vae", vae))
        for k, nll, count in zip((1, 5, 50), values, units, strict=False)
    ]
    return frames.frame(*made)


def judged(made: pd.DataFrame) -> list[Claim]:
    found = tables.chosen(made).runs
    return tables.claims(tables.cells(found, PUBLISHED), found)


def test_the_claims_follow_the_numbers() -> None:
    as_published = grid([86.8, 85.5, 84.8], [86.8, 86.5, 86.4], [19, 22, 25])
    assert [claim.holds for claim in judged(as_published)] == [True, True, True]
    assert "86.80 at k = 1" in judged(as_published)[0].evidence
    turned_round = grid([84.8, 85.5, 86.8], [86.8, 86.5, 86.4], [25, 22, 19])
    assert [claim.holds for claim in judged(turned_round)] == [False, False, False]
    the_vae_gains_too = grid([86.8, 85.5, 84.8], [86.8, 86.0, 85.7], [19, 22, 25])
    assert [claim.holds for claim in judged(the_vae_gains_too)] == [True, False, True]
    without_its_twin = as_published[(as_published["k"] > 1) | (as_published["objective"] == "vae")]
    assert [claim.holds for claim in judged(without_its_twin)] == [True, True, True]
    incomplete = grid([86.8, 85.5], [86.8, 86.5, 86.4], [19, 22, 25])
    assert [claim.holds for claim in judged(incomplete)] == [None, None, None]


@pytest.mark.usefixtures("no_figures")
def test_the_report_has_every_study_and_keeps_what_it_found(root: Path) -> None:
    assert runs.start("name=iwae_table1") == 0
    (root / "experiments" / "iwae_table1").mkdir(parents=True)
    written, lines = command.write(STUDIES, keep=True)
    html = written.read_text()
    for study in STUDIES:
        assert f"make {study.target}" in html
    directory = runs.only_directory(root)
    assert f'href="../{directory.folder.name}' in html
    kept = pd.read_csv(root / "experiments" / "iwae_table1" / "results.csv")
    assert kept["nll"].item() == pytest.approx(directory.read().metrics["test/nll"], rel=1e-5)
    assert kept[["machine", "date", "commit", "budget"]].notna().all(axis=None)
    assert len(lines.splitlines()) == len(STUDIES)


def test_every_study_has_a_target_of_make_with_a_line_of_help() -> None:
    listed = subprocess.run(["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True).stdout
    for study in STUDIES:
        (words,) = re.findall(rf"^make {study.target} +(.+) \(BUDGET\)$", listed, re.MULTILINE)
        module = sys.modules[f"experiments.{study.name}.study"]
        assert (module.__doc__ or "").splitlines()[0] == f"{words}."
    made = subprocess.run(["make", "-n", STUDIES[-1].target], cwd=ROOT, capture_output=True, text=True)
    assert f"-m experiments {STUDIES[-1].target} --budget quick" in made.stdout


@pytest.mark.parametrize(
    "results",
    sorted((ROOT / "experiments").glob("*/results.csv")),
    ids=lambda path: path.parent.name,
)
def test_results_that_are_kept_are_read_with_the_command_that_makes_them(results: Path) -> None:
    (study,) = [study for study in STUDIES if study.name == results.parent.name]
    assert f"make {study.target}" in (results.parent / "README.md").read_text()


def test_the_results_of_an_earlier_report_are_removed(tmp_path: Path) -> None:
    nothing = Findings(pd.DataFrame(), pd.DataFrame(), [], [], [])
    measured = nothing._replace(results=pd.DataFrame({"nll": [1.0]}))
    for findings, is_there in ((measured, True), (nothing, False)):
        page.write([page.Section(STUDIES[0], findings, "make it")], {}, tmp_path)
        assert (tmp_path / STUDIES[0].name / "results.csv").exists() is is_there


@pytest.mark.parametrize("end", ["", "-2", "-13"])  # the second and the thirteenth record of one run
def test_the_seed_of_a_run_is_read_from_its_name(end: str) -> None:
    found = shown.SEED.search(f"iwae-k5-my-s3-model-mnist-s12-1d48a2{end}")
    assert found is not None
    assert found[1] == "12"
