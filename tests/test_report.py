"""Runs as a DataFrame, what is said of a figure beside a published one, and the tables of Burda et al. 2015."""

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import runs

from evidence import report
from evidence.record import Home
from evidence.report import frame, judging
from experiments import reporting, tables
from experiments.iwae_table1 import gains
from experiments.iwae_table1 import study as table1
from experiments.iwae_table2 import study as table2
from experiments.studies import STUDIES
from experiments.uivi_vae import study as uivi

PUBLISHED = pd.read_csv(table1.HERE / "published.csv")


def made_up(**changes: Any) -> dict[str, Any]:
    """A finished run of Table 1, as report.runs gives it."""
    run: dict[str, Any] = {
        "objective": "iwae",
        "variant": "backward=top,m=4",
        "k": 50,
        "model": "one_layer",
        "data": "mnist",
        "seed": 0,
        "stages": "8",
        "eval_samples": 5000,
        "eval_images": 10_000,
        "test/nll": 84.8,
        "test/nll_se": 0.2,
        "test/active_units": 25.0,
        "test/active_units_1": 25.0,
        "device": "cpu",
        "processor": "Fast, 2 threads",
        "git_commit": "0123456789",
        "git_dirty": "false",
        "date": "2026-01-01",
        **changes,
    }
    return {"run": "-".join(str(run[key]) for key in ("objective", "k", "stages", "seed", "date")), **run}


def cells(*made: dict[str, Any]) -> pd.DataFrame:
    return tables.cells(pd.DataFrame([made_up(**changes) for changes in made]), PUBLISHED)


@pytest.mark.usefixtures("no_figures")
def test_runs_are_two_lines_of_python(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame, "ROOT", root)
    assert report.runs("study").empty
    assert runs.start("name=study") == 0
    assert runs.start("name=other", "seed=1") == 0
    runs.begin("name=study", "seed=2")

    found = report.runs("study")
    assert list(found["status"]) == ["KILLED", "FINISHED"]  # the latest first
    assert list(found["seed"]) == [2, 0]
    run = found.iloc[1]
    home = next(home for home in runs.homes(root) if home.folder.name == run["run"])
    assert {name: run[name] for name in runs.numbers(home)} == runs.numbers(home)
    assert (run["objective"], run["k"], run["stages"]) == ("iwae", 3, "60 steps")
    assert root / run["folder"] == home.folder
    assert run["url"] is None  # the store is no server
    assert len(report.runs()) == 3
    assert list(frame.finished("study")["run"]) == [run["run"]]


def test_a_server_has_a_page_for_each_run(monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.entities import Run, RunData, RunInfo

    from evidence import tracking

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
    assert judging.length("3") == (13, "13 of 3280 passes")
    assert judging.length("8") == (3280, "3280 of 3280 passes")
    assert judging.length("5000 steps") == (5000, "5,000 steps")


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
    assert one_layer["NLL, nats"] == "84.90 ± 0.14"
    assert (one_layer["published NLL"], one_layer["difference"]) == ("84.78", "+0.12")
    assert (one_layer["active units"], one_layer["published units"]) == ("25 ± 0", "25")
    assert (two_layers["active units"], two_layers["published units"]) == ("26 + 6", "26 + 7")


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
    return cells(*made)


def test_the_claims_follow_the_numbers() -> None:
    as_published = grid([86.8, 85.5, 84.8], [86.8, 86.5, 86.4], [19, 22, 25])
    assert [claim.holds for claim in tables.claims(as_published)] == [True, True, True]
    assert "86.80 at k = 1" in tables.claims(as_published)[0].evidence
    turned_round = grid([84.8, 85.5, 86.8], [86.8, 86.5, 86.4], [25, 22, 19])
    assert [claim.holds for claim in tables.claims(turned_round)] == [False, False, False]
    the_vae_gains_too = grid([86.8, 85.5, 84.8], [86.8, 86.0, 85.7], [19, 22, 25])
    assert [claim.holds for claim in tables.claims(the_vae_gains_too)] == [True, False, True]
    without_its_twin = pd.concat(
        [as_published[as_published["k"] > 1], as_published[as_published["objective"] == "vae"]]
    )
    assert [claim.holds for claim in tables.claims(without_its_twin.drop_duplicates())] == [True, True, True]
    incomplete = grid([86.8, 85.5], [86.8, 86.5, 86.4], [19, 22, 25])
    assert [claim.holds for claim in tables.claims(incomplete)] == [None, None, None]


def test_gains_are_paired_by_seed_and_passes(tmp_path: Path) -> None:
    def trained(objective: str, k: int, seed: int, *nll: float, model: str = "one_layer") -> dict[str, Any]:
        home = Home(tmp_path / f"{objective}-{k}-{seed}-{model}")
        home.folder.mkdir()
        steps = [2980, 11_920, 38_740]
        home.append_metrics([("valid/nll", value, step) for value, step in zip(nll, steps, strict=False)])
        return made_up(objective=objective, k=k, seed=seed, model=model, folder=str(home.folder))

    made = [
        trained("vae", 1, 0, 114.0, 102.0),
        trained("vae", 1, 1, 115.0, 103.0),
        trained("vae", 50, 0, 108.0, 99.0, 94.0),
        trained("vae", 50, 1, 110.0),
        trained("iwae", 50, 0, 113.0),  # its k = 1 is the VAE's
        trained("iwae", 50, 2, 113.0),  # has no pair
        trained("vae", 1, 0, 116.0, model="two_layer"),
        trained("vae", 5, 0, 112.0, model="two_layer"),
    ]
    gained = gains.gains(pd.DataFrame(made)).set_index(["stochastic_layers", "objective", "k", "passes"])
    expected = {
        (1, "iwae", 50, 1): 1.0,
        (1, "vae", 50, 1): 5.5,
        (1, "vae", 50, 4): 3.0,
        (2, "vae", 5, 1): 4.0,
    }
    assert gained["gain"].to_dict() == expected
    assert list(gained["seeds"]) == [1, 2, 1, 1]
    assert gained.loc[(1, "vae", 50, 1), "gain_sd"] == pytest.approx(math.sqrt(0.5))
    gains.draw(gained.reset_index(), PUBLISHED, tmp_path / "gains.png")


def test_a_second_phase_belongs_to_the_other_objectives_experiment(tmp_path: Path) -> None:
    switched = {"init_from": "a folder", "stages": f"{3**7 * 2980} steps"}
    made = [
        {"objective": "vae", "k": 1, "test/nll": 86.8, "test/active_units": 19.0},
        {"objective": "iwae", "k": 50, "test/nll": 84.9, "test/active_units": 22.0, **switched},
        {"objective": "iwae", "k": 50, "test/nll": 84.8, "test/active_units": 25.0},
        {"objective": "vae", "k": 1, "test/nll": 87.0, "test/active_units": 26.0, **switched},
    ]
    found = table2.find(pd.DataFrame([made_up(**run) for run in made]), tmp_path)
    rows = found.results.set_index(["experiment", "stage"])
    assert list(rows["nll"]) == [86.8, 84.9, 84.8, 87.0]
    assert list(rows["published_nll"]) == [86.76, 84.88, 84.78, 86.02]
    assert list(rows["verdict"]) == ["within 0.5 nats; units within 2"] * 3 + ["worse by 0.98 nats"]
    assert [claim.holds for claim in found.claims] == [True, False]  # units have risen in the second

    made[3] |= {"test/nll": 84.804, "test/active_units": 23.0}  # as good as before the switch
    found = table2.find(pd.DataFrame([made_up(**run) for run in made]), tmp_path)
    assert [claim.holds for claim in found.claims] == [True, False]
    made[3] |= {"test/nll": 84.81}
    found = table2.find(pd.DataFrame([made_up(**run) for run in made]), tmp_path)
    assert [claim.holds for claim in found.claims] == [True, True]


def test_a_second_phase_repeats_the_last_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = pd.DataFrame(
        [made_up(objective="vae", k=1, stages="8"), made_up(stages="8"), made_up(stages="2", seed=1)]
    )
    monkeypatch.setattr(table2, "finished", lambda _: ended)
    *firsts, to_iwae, to_vae = table2.sweeps("paper")
    assert len(firsts) == 2
    assert {"objective=iwae", "k=50", "init_from=vae-1-8-0-2026-01-01"} <= set(to_iwae)
    assert {"trainer.steps=6517260", "trainer.learning_rate=0.0001"} <= set(to_vae)


def test_implicit_posteriors_are_compared_by_the_estimate_that_was_published(tmp_path: Path) -> None:
    full = {"model": "any", "data": "mnist_fixed", "k": 1, "stages": "400000 steps", "eval_samples": 1000}
    made = [
        {**full, "objective": "vae", "test/nll": 98.3},
        {**full, "objective": "uivi", "test/nll": 97.0, "test/nll_fresh": 94.2, "test/nll_gaussian": 96.8},
        {**full, "objective": "sivi", "stages": "10000 steps", "test/nll": 98.0, "test/nll_fresh": 97.8},
    ]
    found = uivi.find(pd.DataFrame([made_up(**run) for run in made]), tmp_path)
    assert dict(zip(found.results["method"], found.results["verdict"], strict=True)) == {
        "vae": "within 0.5 nats",
        "sivi": "short budget",
        "uivi": "within 0.5 nats",
    }
    assert [claim.holds for claim in found.claims] == [True, True, True, None, None, None]
    assert (tmp_path / "nll.png").stat().st_size > 1000
    looser_mixture = [{**made[1], "test/nll": 98.2}, made[2]]  # its Gaussian is the tighter bound
    found = uivi.find(pd.DataFrame([made_up(**run) for run in looser_mixture]), tmp_path)
    assert [claim.holds for claim in found.claims][:3] == [None, True, None]
    assert found.claims[1].evidence.startswith("-1.20 nats by the tighter of each one's two bounds, +0.20 by")


@pytest.mark.usefixtures("no_figures")
def test_the_report_has_every_study_and_keeps_what_it_found(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frame, "ROOT", root)
    monkeypatch.setattr(reporting, "ROOT", root)
    monkeypatch.setattr(reporting, "FOLDER", root / "outputs" / "report")
    assert runs.start("name=iwae_table1") == 0
    (root / "experiments" / "iwae_table1").mkdir(parents=True)
    page, lines = reporting.write(STUDIES, keep=True)
    html = page.read_text()
    for study in STUDIES:
        assert f"make {study.target}" in html
    home = runs.only_home(root)
    assert f'href="../{home.folder.name}' in html
    kept = pd.read_csv(root / "experiments" / "iwae_table1" / "results.csv")
    assert kept["nll"].item() == pytest.approx(home.result["metrics"]["test/nll"], rel=1e-5)
    assert kept[["machine", "date", "commit", "budget"]].notna().all(axis=None)
    assert len(lines.splitlines()) == len(STUDIES)


def test_every_study_lies_in_a_folder_of_its_name_and_has_a_target_of_make() -> None:
    makefile = (reporting.ROOT / "Makefile").read_text()
    for study in STUDIES:
        folder = reporting.ROOT / "experiments" / study.name
        assert (folder / "README.md").exists()
        assert f"make {study.target}" in (folder / "README.md").read_text()
        assert f"\n{study.target}: ## " in makefile
    (listed,) = [line for line in makefile.splitlines() if line.startswith("STUDIES :=")]
    assert listed.split()[2:] == [study.target for study in STUDIES]
