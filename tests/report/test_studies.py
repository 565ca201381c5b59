"""Studies from made-up runs to their claims: gains by passes, the objective switched, implicit posteriors."""

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from frames import frame, made_up
from made_up import request

from evidence.runs import lookup
from experiments.iwae_table1 import gains
from experiments.iwae_table1 import study as table1
from experiments.iwae_table2 import study as table2
from experiments.uivi_vae import study as uivi

PUBLISHED = pd.read_csv(table1.HERE / "published.csv")


def test_gains_are_paired_by_seed_passes_and_scores(tmp_path: Path) -> None:
    def trained(objective: str, k: int, seed: int, *nll: float, **changes: Any) -> list[dict[str, Any]]:
        """A run for each length, of 1, 4 and 13 passes."""
        same = {"objective": objective, "k": k, "seed": seed, "test/active_units": 20.0 + k, **changes}
        return [
            made_up(**same, **{"stages": str(stage), "test/nll": value}) for stage, value in enumerate(nll, 1)
        ]

    made = [
        *trained("vae", 1, 0, 114.0, 102.0),
        *trained("vae", 1, 1, 115.0, 103.0),
        *trained("vae", 50, 0, 108.0, 99.0, 94.0),
        *trained("vae", 50, 1, 110.0),
        *trained("iwae", 50, 0, 113.0),  # its k = 1 is the VAE's
        *trained("iwae", 50, 2, 113.0),  # has no pair
        *trained("vae", 1, 0, 116.0, model="two_layer"),
        *trained("vae", 5, 0, 112.0, model="two_layer"),
        *trained("vae", 1, 0, 80.0, 70.0, eval_images=500),  # the first length is scored on more images above
        *trained("iwae", 5, 0, 77.0, 70.5, eval_images=500),
    ]
    found = gains.gains(pd.DataFrame(made))
    assert found.notes == []
    gained = found.table.set_index(["stochastic_layers", "objective", "k", "passes"])
    expected = {
        (1, "iwae", 5, 1): 3.0,
        (1, "iwae", 5, 4): -0.5,
        (1, "iwae", 50, 1): 1.0,
        (1, "vae", 1, 1): 0.0,
        (1, "vae", 1, 4): 0.0,
        (1, "vae", 50, 1): 5.5,
        (1, "vae", 50, 4): 3.0,
        (2, "vae", 1, 1): 0.0,
        (2, "vae", 5, 1): 4.0,
    }
    assert gained["gain"].to_dict() == expected
    assert gained["seeds"].to_dict() == {**dict.fromkeys(expected, 1), **dict.fromkeys(TWO_SEEDS, 2)}
    assert gained.loc[(1, "vae", 50, 1), "gain_sd"] == pytest.approx(math.sqrt(0.5))
    assert gained.loc[(1, "iwae", 50, 1), "active_units"] == 70.0
    gains.draw(found.table, PUBLISHED, tmp_path / "gains.png")


TWO_SEEDS = [(1, "vae", 1, 1), (1, "vae", 1, 4), (1, "vae", 50, 1)]


def test_a_second_phase_belongs_to_the_other_objectives_experiment(tmp_path: Path) -> None:
    last = {"stages": f"{3**7 * 2980} steps"}
    iwae = {"objective": "iwae", "k": 50, "init_from": "outputs/vae-1-8-0-2026-01-01", **last}
    vae = {"objective": "vae", "k": 1, "init_from": "iwae-50-8-0-2026-01-01", **last}
    made = [
        {"objective": "vae", "k": 1, "test/nll": 86.8, "test/active_units": 19.0},
        {**iwae, "test/nll": 84.9, "test/active_units": 22.0},
        {"objective": "iwae", "k": 50, "test/nll": 84.8, "test/active_units": 25.0},
        {**vae, "test/nll": 87.0, "test/active_units": 26.0},
    ]
    found = table2.find(frame(*made), tmp_path)
    rows = found.results.set_index(["experiment", "stage"])
    assert list(rows["nll"]) == [86.8, 84.9, 84.8, 87.0]
    assert list(rows["published_nll"]) == [86.76, 84.88, 84.78, 86.02]
    assert list(rows["verdict"]) == ["within 0.5 nats; units within 2"] * 3 + ["worse by 0.98 nats"]
    assert [claim.holds for claim in found.claims] == [True, False]  # units have risen in the second

    made[3] |= {"test/nll": 84.804, "test/active_units": 23.0}  # as good as before the switch
    found = table2.find(frame(*made), tmp_path)
    assert [claim.holds for claim in found.claims] == [True, None]
    made[3] |= {"test/nll": 84.81}
    found = table2.find(frame(*made), tmp_path)
    assert [claim.holds for claim in found.claims] == [True, True]


def test_a_second_phase_repeats_the_last_stage_of_the_run_that_the_first_command_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def finish(*words: str) -> str:
        (job,) = request("experiment=iwae_table2", "eval=paper", "trainer.stages=8", *words).jobs
        located = lookup.locate(job.settings, tmp_path)
        located.directory.folder.mkdir(parents=True)
        located.directory.update(status="FINISHED", code=located.code, **located.facts())
        return located.directory.folder.name

    vae, vae_2 = (finish("objective=vae", "k=1", seed) for seed in ("seed=0", "seed=2"))
    iwae = finish("objective=iwae", "k=50")
    for seed in range(3):  # as long, of most seeds and the latest, but nobody asked for them
        finish("objective=iwae", "k=50", "trainer.learning_rate=0.01", f"seed={seed}")
    *firsts, to_iwae, to_iwae_2, to_vae = table2.sweeps("paper")
    assert len(firsts) == 2
    assert {"objective=iwae", "k=50", "seed=0", f"init_from={vae}"} <= set(to_iwae)
    assert {"objective=iwae", "seed=2", f"init_from={vae_2}"} <= set(to_iwae_2)
    assert {"objective=vae", "k=1", f"init_from={iwae}"} <= set(to_vae)
    assert {"trainer.steps=6517260", "trainer.learning_rate=0.0001"} <= set(to_vae)


def test_implicit_posteriors_are_compared_by_the_estimate_that_was_published(tmp_path: Path) -> None:
    full = {"model": "any", "data": "mnist_fixed", "k": 1, "stages": "400000 steps", "eval_samples": 1000}
    made = [
        {**full, "objective": "vae", "test/nll": 98.3},
        {**full, "objective": "uivi", "test/nll": 97.0, "test/nll_fresh": 94.2, "test/nll_gaussian": 96.8},
        {**full, "objective": "sivi", "test/nll": 98.0, "test/nll_fresh": 97.8},
    ]
    found = uivi.find(frame(*made), tmp_path)
    assert dict(zip(found.results["method"], found.results["verdict"], strict=True)) == {
        "vae": "within 0.5 nats",
        "sivi": "within 0.5 nats",
        "uivi": "within 0.5 nats",
    }
    assert [claim.holds for claim in found.claims] == [True, True, True, None, None, None]
    assert (tmp_path / "nll.png").stat().st_size > 1000
    looser_mixture = [{**made[1], "test/nll": 98.2}, made[2]]  # its Gaussian is the tighter bound
    found = uivi.find(frame(*looser_mixture), tmp_path)
    assert [claim.holds for claim in found.claims][:3] == [None, True, None]
    assert found.claims[1].evidence.startswith("-1.20 nats by the tighter of each one's two bounds, +0.20 by")
    for unlike, why in (
        ({"stages": "10000 steps"}, "trained 400,000 steps and 10,000 steps"),
        ({"eval_images": 500}, "test images 10000 and 500"),
        ({"eval_samples": 500}, "S 1000 and 500"),
        ({"data_digest": "other"}, "data da7a000000000000 and other"),
        ({uivi.NOISES: "100"}, "T 10000 and 100"),
    ):
        found = uivi.find(
            frame({**made[1], uivi.NOISES: "10000"}, {**made[2], uivi.NOISES: "10000", **unlike}), tmp_path
        )
        assert (found.claims[1].holds, found.claims[1].evidence) == (None, f"not compared: {why}")
