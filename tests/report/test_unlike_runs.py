"""Unlike runs are never averaged: what stands in a cell of a report, what was left out of it, and why."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import runs
from frames import frame

from evidence.report import frame as recorded
from evidence.report import selection
from evidence.report.compare import NLL_OVER_SEEDS
from experiments.iwae_table1 import study as table1
from experiments.iwae_table1 import tables

VAE = ("name=iwae_table1", "objective=vae", "k=1", "trainer.log_every=20")
CELL = ["objective", "k"]
PUBLISHED = pd.read_csv(table1.HERE / "published.csv")


def names(made: pd.DataFrame) -> list[str]:
    return sorted(made["run"])


@pytest.mark.usefixtures("no_figures")
def test_runs_of_one_experiment_that_differ_in_their_settings_are_no_seeds(root: Path) -> None:
    for seed in (0, 1):
        assert runs.start(*VAE, f"seed={seed}") == 0
    other = ["seed=2", "trainer.learning_rate=0.01", "model.latent=[7]", "model.hidden=[[20,20]]"]
    assert runs.start(*VAE, *other) == 0
    found = table1.find(recorded.finished("iwae_table1"), root)
    (row,) = [row for _, row in found.results.iterrows()]
    directories = {
        directory.folder.name: directory.read().metrics["test/nll"] for directory in runs.directories(root)
    }
    assert row["seeds"] == 2
    assert row["nll"] == pytest.approx(sum(directories[name] for name in row["runs"].split("; ")) / 2)
    (left_out,) = set(directories) - set(row["runs"].split("; "))
    (note,) = [note for note in found.notes if left_out in note]
    assert "objective vae, k 1" in note
    assert "trainer.learning_rate 0.01, not 0.001" in note
    assert "model.latent [7], not [50]" in note
    assert found.table[NLL_OVER_SEEDS].item().startswith(f"{row['nll']:.2f} ± ")


@pytest.mark.parametrize(
    ("kept", "left_out", "reason"),
    [
        ({"stages": "8"}, {"stages": "7", "trainer.learning_rate": "1"}, None),  # shorter: superseded
        ({"eval_images": 10_000}, {"eval_images": 500, "eval_samples": 9000}, None),
        ({"eval_samples": 5000}, {"eval_samples": 500}, None),
        ({}, {"trainer.learning_rate": "0.01"}, "trainer.learning_rate 0.01, not 0.001"),
        ({}, {"model.hidden": "[[20]]"}, "model.hidden [[20]], not not set"),
        ({}, {"code_digest": "c1de"}, "other code"),
        ({}, {"data_digest": "da7b", "code_digest": "c1de"}, "other code, other data"),
        ({}, {"variant": "num_exact=None"}, "other settings"),
        (
            {},
            {"seed": 1, "date": "2025-01-01", "test/nll": 84.81},
            None,
        ),  # to the rounding of another processor
        (
            {},
            {"seed": 1, "date": "2025-01-01", "test/nll": 83.0},
            "NLL 83.00, and `kept-1`, of the same settings, code and seed, has 84.80",
        ),
        ({}, {"mixed": "from step 20: evidence has changed"}, "mixed: from step 20: evidence has changed"),
        ({"stages": "3"}, {"mixed": "other data"}, "mixed: other data"),  # however long
        ({"stages": "3"}, {"cell_identity": None}, "made by an earlier version"),
        ({}, {"code_digest": None}, "made by an earlier version"),
        ({}, {"data_digest": None}, "made by an earlier version"),
    ],
)
@pytest.mark.parametrize("is_first", [True, False])
def test_a_cell_is_of_like_runs_and_those_left_out_are_named_with_the_reason(
    kept: dict[str, Any], left_out: dict[str, Any], reason: str | None, is_first: bool
) -> None:
    like = [{"run": f"kept-{seed}", "seed": seed, **kept} for seed in (0, 1)]
    other = {
        "run": "other",
        "seed": 2,
        "date": "2026-02-02",
        **left_out,
    }  # the latest, and no seed of the others
    found = selection.choose(frame(*([other, *like] if is_first else [*like, other])), CELL)
    assert names(found.runs) == ["kept-0", "kept-1"]
    assert found.notes == ([f"Left out of objective iwae, k 50: `other` ({reason})."] if reason else [])


def test_of_groups_as_long_and_as_well_scored_that_of_most_seeds_counts_and_then_the_latest() -> None:
    old = [{"run": f"old-{seed}", "seed": seed, "ended": "2026-03-03T08:00:00.000+00:00"} for seed in (0, 1)]
    new = {"code_digest": "c1de", "ended": "2026-03-03T08:00:00.001+00:00"}
    found = selection.choose(frame(*old, {"run": "new-0", **new}), CELL)
    assert names(found.runs) == ["old-0", "old-1"]
    found = selection.choose(
        frame(*old, *({"run": f"new-{seed}", "seed": seed, **new} for seed in (0, 1))), CELL
    )
    assert names(found.runs) == ["new-0", "new-1"]
    assert found.notes == ["Left out of objective iwae, k 50: `old-0`, `old-1` (other code)."]


def test_of_one_seed_the_latest_run_of_a_day_counts() -> None:
    ends = ["2026-03-03T21:00:00.500+00:00", "2026-03-03T21:00:00.499+00:00", "2026-03-03T08:00:00.000+00:00"]
    made = frame(*({"run": f"at {end}", "ended": end} for end in ends))  # MLflow gives the latest first
    for order in (made, made[::-1]):
        assert names(selection.choose(order, CELL).runs) == [f"at {ends[0]}"]


def test_a_mixed_run_counts_only_where_there_is_no_other_and_then_alone() -> None:
    made = frame(*({"run": f"mixed-{seed}", "seed": seed, "mixed": "other data"} for seed in (0, 1)))
    found = selection.choose(made, CELL)
    assert len(found.runs) == 1
    left_out, said = found.notes
    assert left_out == "Left out of objective iwae, k 50: `mixed-1` (mixed: other data)."
    assert (
        said == "No run of objective iwae, k 50 is pure. What stands there is `mixed-0` (mixed: other data)."
    )


def test_steps_are_not_compared_with_passes() -> None:
    steps = {"run": "steps", "stages": "38000 steps"}  # under 13 passes
    found = selection.choose(frame(steps, {"run": "staged", "stages": "3"}), CELL)
    assert names(found.runs) == ["staged"]
    result = tables.cells(tables.chosen(frame({"stages": "3280 steps"})).runs, PUBLISHED)
    assert result["verdict"].item() == "short budget"  # 3280 steps are no 3280 passes


def test_nothing_but_earlier_runs_is_no_figure_and_is_said(tmp_path: Path) -> None:
    found = table1.find(frame({"cell_identity": None}), tmp_path)
    assert found.results.empty
    assert [claim.holds for claim in found.claims] == []
    assert "made by an earlier version" in found.notes[-1]


def test_one_row_stands_for_an_objective_and_k_whatever_its_options(tmp_path: Path) -> None:
    full = {"run": "all", "variant": "num_exact=4", "objective.num_exact": "4", "test/nll": 80.0}
    made = frame(
        {"run": "top", "objective.num_exact": "null"}, {"seed": 1, "objective.num_exact": "null"}, full
    )
    found = table1.find(made, tmp_path)
    assert found.results["nll"].tolist() == [84.8]
    assert "`all` (objective.num_exact 4, not null)" in found.notes[-1]


def test_cells_that_are_compared_say_in_what_they_are_unlike(tmp_path: Path) -> None:
    vae = [{"objective": "vae", "k": k, "test/nll": 87.0, "test/active_units": 19.0} for k in (1, 5, 50)]
    iwae = [{"objective": "iwae", "k": k, "test/active_units": 20.0 + k} for k in (5, 50)]
    iwae[0] |= {"code_digest": "c1de", "trainer.learning_rate": "0.01", "test/nll": 80.0, "run": "far"}
    found = table1.find(frame(*vae, *iwae), tmp_path)
    assert [claim.holds is None for claim in found.claims] == [False] * 3
    assert "MNIST, one_layer: the runs that are compared do not have the same code." in found.notes
    assert "`far` not as the study trains: trainer.learning_rate 0.01, not 0.001." in found.notes
    for unlike in ({"eval_samples": 500}, {"eval_images": 99}, {"data_digest": "x"}, {"stages": "7"}):
        claims = table1.find(frame(*vae, iwae[0], iwae[1] | unlike), tmp_path).claims
        assert [claim.holds for claim in claims] == [None] * 3
        assert claims[1].evidence.startswith("not compared: ")


def test_figures_of_several_days_name_each() -> None:
    made = tables.chosen(frame({"seed": 1, "date": "2026-01-02"}, {"seed": 0})).runs
    assert tables.cells(made, PUBLISHED)["date"].item() == "2026-01-01; 2026-01-02"


def test_a_metric_that_a_seed_lacks_has_no_mean_over_the_others() -> None:
    made = tables.chosen(frame({"seed": 0}, {"seed": 1, "test/active_units_1": None})).runs
    row = tables.cells(made, PUBLISHED).iloc[0]
    assert pd.isna(row["active_units_1"])
    assert row["nll"] == 84.8


def test_a_shorter_group_of_more_seeds_is_noted_with_its_figures(tmp_path: Path) -> None:
    longest = {"stages": "5", "test/nll": 90.0}
    shorter = [{"stages": "4", "seed": seed, "test/nll": 92.0 + seed} for seed in range(3)]
    found = table1.find(frame(longest, *shorter), tmp_path)
    assert found.results[["seeds", "nll", "budget"]].to_numpy().tolist() == [[1, 90.0, "121 of 3280 passes"]]
    (note,) = [note for note in found.notes if note.startswith("Beside")]
    words = (
        "which is of one seed: 40 of 3280 passes, 3 seeds, NLL 93.00 ± 1.00 nats (± sd over seeds), S = 5000,"
    )
    assert words in note
    assert not [note for note in table1.find(frame(longest, shorter[0]), tmp_path).notes if "Beside" in note]
