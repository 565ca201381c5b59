"""Differences are of like runs too: by seed, by stage of a training, and to the run that training went on from."""

import json
from pathlib import Path
from typing import Any

import pytest
from frames import CODE, frame

from evidence.report import protocol
from evidence.report.cells import cells
from experiments.critic import study as critic
from experiments.few_samples import measure as few_samples
from experiments.iwae_table1 import gains
from experiments.iwae_table2 import study as table2

OTHER = {"code_digest": "c1de", "git_commit": "another", "git_dirty": "true"}
CRITIC = {"objective": "critic", "k": 5, "variant": "encoder=path,target=evidence,bound=0.5,warmup=2000"}


@pytest.mark.parametrize(
    ("unlike", "reason"),
    [
        (OTHER | {"code_package": "c1de"}, "other code"),
        (OTHER | {"code": json.dumps(CODE | {"layers": "c1de"})}, "other code"),
        (OTHER | {"code": json.dumps(CODE | {"torch": "2.11.0"})}, "other code"),
        (OTHER | {"code": None, "version_torch": "2.11.0"}, "other code"),
        (OTHER | {"code_package": None}, "other code"),
        ({"data_digest": "da7b"}, "other data"),
        ({"trainer.learning_rate": "0.01"}, "trainer.learning_rate 0.01, not 0.001"),
        ({"eval_images": 500}, "eval_images 500, not 10000"),
        ({"stages": "2"}, "steps 11920, not 9774400"),
    ],
)
def test_a_form_is_compared_with_the_vae_by_like_runs_only(
    unlike: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    vae = [{"objective": "vae", "k": 5, "seed": seed, "test/nll": 100.0} for seed in (0, 1)]
    forms = [{**CRITIC, "run": f"path-{seed}", "seed": seed, "test/nll": 99.0, **unlike} for seed in (0, 1)]
    found = critic.find(frame(*vae, *forms), tmp_path)
    assert found.results.set_index("form")["pairs"].to_dict() == {"VAE": 2, "path, evidence": 0}
    assert found.claims[1].holds is None
    notes = [note for note in found.notes if "`path-1` is not compared with" in note]
    assert len(notes) == 1
    assert notes[0].endswith(f": {reason}.")


@pytest.mark.parametrize(
    "unlike",
    [
        OTHER,
        OTHER | {"code": json.dumps(CODE | {"evidence": "of the critic", "its own file": "c1de"})},
        {"code_digest": "c1de", "code_package": None, "code": None},  # an earlier version, one clean commit
    ],
)
def test_the_code_is_the_same_though_each_run_has_a_hash_of_its_own_objective(
    unlike: dict[str, Any], tmp_path: Path
) -> None:
    vae = {"objective": "vae", "k": 5, "test/nll": 100.0}
    made = frame(vae, CRITIC | {"test/nll": 99.0} | unlike)
    assert critic.find(made, tmp_path).results["pairs"].tolist() == [1, 1]
    assert protocol.unlike(made, "here") == []


@pytest.mark.parametrize("key", ["trainer.validate_every", "trainer.log_every", "eval.keep_log_weights"])
def test_what_changes_no_number_is_no_difference(key: str, tmp_path: Path) -> None:
    made = frame({"objective": "vae", "k": 5, key: "1"}, {**CRITIC, key: "2"})
    assert critic.find(made, tmp_path).results["pairs"].tolist() == [1, 1]
    assert cells(made).columns == ["objective"]
    assert not any(key in note for note in cells(made).notes)


def test_of_one_objective_the_hash_of_its_code_decides() -> None:
    found = gains.gains(frame({"objective": "vae", "k": 1} | OTHER, {"k": 5}))
    assert found.table["objective"].tolist() == ["iwae", "vae"]
    found = gains.gains(frame({"k": 1, "run": "one", "code_digest": "another"}, {"k": 5, "run": "five"}))
    assert found.notes == ["`five` is not compared with `one`: other code."]
    missing = {"variant": None}  # the same objective, whose settings are not told
    found = gains.gains(frame({"k": 1, "code_digest": "another", **missing}, {"k": 5, **missing}))
    assert found.table["k"].tolist() == [1]


def test_a_form_is_one_row_whatever_its_bound_and_of_the_studys_data_and_model(tmp_path: Path) -> None:
    looser = CRITIC | {"variant": "encoder=path,target=evidence,bound=3.0,warmup=2000", "run": "looser"}
    odd = CRITIC | {"variant": "encoder=literal,target=evidence,bound=0.5,warmup=0"}
    made = [CRITIC, CRITIC | {"seed": 1}, looser, odd, CRITIC | {"data": "digits", "seed": 2}]
    found = critic.find(frame(*made, CRITIC | {"model": "two_layer", "seed": 3}), tmp_path)
    assert found.results["seeds"].tolist() == [2]
    assert "`looser` (other settings)" in found.notes[-1]


def test_gains_are_of_like_runs() -> None:
    vae = {"objective": "vae", "k": 1, "run": "one"}
    assert len(gains.gains(frame(vae, {"k": 5})).table) == 2
    for unlike in ({"stages": "3"}, {"eval_samples": 500}, {"eval_images": 500}, {"data": "omniglot"}):
        found = gains.gains(frame(vae, {"k": 5, **unlike}))
        assert found.table["k"].tolist() == [1]
    found = gains.gains(frame(vae, {"k": 5, "run": "five", "trainer.learning_rate": "0.01"}))
    assert found.table["k"].tolist() == [1]
    assert found.notes == ["`five` is not compared with `one`: trainer.learning_rate 0.01, not 0.001."]


def test_a_second_phase_is_compared_with_the_run_that_it_went_on_from(tmp_path: Path) -> None:
    vae = {"objective": "vae", "k": 1}
    second = {"objective": "iwae", "k": 50, "stages": "26820 steps", "init_from": "outputs/short"}
    made = [
        vae | {"run": "short", "stages": "3", "test/nll": 96.0, "test/active_units": 20.0},
        vae | {"run": "long", "test/nll": 86.0},
        second | {"test/nll": 93.0, "test/active_units": 45.0},
        vae | {"run": "elsewhere", "data": "omniglot", "test/nll": 110.0, "ended": "2027"},
    ]
    found = table2.find(frame(*made), tmp_path)
    assert found.results["nll"].tolist() == [96.0, 93.0]
    assert (
        found.claims[0].evidence
        == "NLL -3.00 nats, active units +25; 13 of 3280 passes, then 9 of 2187 passes more, one seed"
    )
    assert found.claims[0].holds
    found = table2.find(frame(*made[1:]), tmp_path)
    assert found.results["nll"].tolist() == [86.0, 93.0]
    assert found.claims[0].holds is None
    assert found.claims[0].evidence == "not compared: short is not in this experiment"
    found = table2.find(frame(made[0], made[2] | {"eval_samples": 500}), tmp_path)
    assert found.claims[0].evidence == "not compared: S 5000 and 500"


def test_a_second_phase_as_long_as_the_papers_is_no_full_training_after_a_short_first_one(
    tmp_path: Path,
) -> None:
    vae = {"objective": "vae", "k": 1, "run": "first", "stages": "3"}
    second = {"objective": "iwae", "k": 50, "stages": f"{3**7 * 2980} steps", "init_from": "first"}
    found = table2.find(frame(vae, second), tmp_path)
    assert found.results["verdict"].tolist() == ["short budget"] * 2


def test_few_samples_backward_are_compared_by_like_runs() -> None:
    def ended(backward: str, seed: int, nll: float, **changes: Any) -> dict[str, Any]:
        name = f"{backward}-{seed}-{nll}"
        settings = {
            "objective.num_exact": {"all": "null", "top": "4", "sampled": "0"}[backward],
            "trainer.name": "quick",
            "stages": "3",
            "eval_samples": 500,
        }
        return {"run": name, "seed": seed, "test/nll": nll, "ended": f"2026-{nll}", **settings, **changes}

    runs = [ended(backward, seed, 90.0 + seed) for backward in ("all", "top") for seed in (0, 1)]
    runs += [ended("top", 2, 80.0, **{"trainer.learning_rate": "0.01"}), ended("top", 1, 91.5)]
    runs += [ended("sampled", 0, 70.0), ended("all", 3, 70.0, stages="4"), ended("all", 3, 70.0, k=5)]
    chosen, notes = few_samples.ended(frame(*runs))
    difference, _, unpaired = few_samples.paired_difference(chosen)
    assert chosen["run"].tolist() == ["all-0-90.0", "top-0-90.0", "all-1-91.0", "top-1-91.5"]
    assert difference == 0.25
    assert unpaired == []
    assert notes == ["Left out of backward top: `top-2-80.0` (trainer.learning_rate 0.01, not 0.001)."]
