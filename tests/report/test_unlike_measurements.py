"""What is measured beside the runs stands for the code that measured it, and for the record it was measured on."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import runs
from frames import frame as made_up

from evidence.errors import UserError
from evidence.report import frame, measurements, selection
from evidence.runs import provenance as code
from experiments.active_units import measuring as active_units
from experiments.bounds import measuring as bounds
from experiments.critic import measuring as critic
from experiments.iwae_table1 import cells
from experiments.uivi_toys import fits, study
from experiments.uivi_toys.fits import fit

ORIGIN = {"machine": "m", "date": "2026-01-01", "commit": "12e4567"}


@pytest.mark.parametrize("change", [{"source": "another"}, {"record": "another"}])
def test_rows_of_other_code_or_of_another_record_are_measured_again(
    change: dict[str, str], tmp_path: Path
) -> None:
    path, asked = tmp_path / "a.csv", []

    def rows(images: Sequence[int]) -> list[dict[str, Any]]:
        asked.extend(images)
        return [{"image": image, "value": len(asked)} for image in images]

    same = {"source": "1234567890123456", "record": "00000000000000e1"}
    for _ in range(2):
        measurements.complete(path, [0, 1], rows, same)
    assert asked == [0, 1]
    measurements.complete(path, [0], rows, same | change)
    assert asked == [0, 1, 0]
    assert pd.read_csv(path)["value"].tolist() == [3]
    assert measurements.read(path, same).empty


def test_rows_that_do_not_tell_their_code_are_measured_again(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    pd.DataFrame({"image": [0, 1], "value": [7, 7]}).to_csv(path, index=False)
    measurements.complete(path, [0], lambda _: [{"image": 0, "value": 8}], {"source": "s"})
    assert pd.read_csv(path)["value"].tolist() == [8]


def test_figures_from_several_machines_days_and_commits_name_each(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    later = ORIGIN | {"machine": "n", "commit": "0123456"}
    pd.DataFrame([ORIGIN, later]).assign(source="s").to_csv(path, index=False)
    expected = {
        "machine": "m; n",
        "date": "2026-01-01",
        "commit": "12e4567; 0123456",
    }  # texts, and no numbers
    assert measurements.origin(measurements.read(path, {})) == expected


def test_the_measuring_code_is_known_by_all_that_it_imports() -> None:
    modules = [f"experiments.{name}.measuring" for name in ("active_units", "bounds", "critic")]
    digests = {code.source_digest(module) for module in (*modules, fits.__name__)}
    assert len(digests) == 4
    assert all(measurements.source(module) == {"source": code.source_digest(module)} for module in modules)


@pytest.mark.usefixtures("no_figures")
def test_a_trained_run_is_measured_again_only_by_other_code(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(critic, "DRAWS", 3)
    assert runs.start("objective=vae", "k=1", "name=study") == 0
    (_, run), *_ = selection.choose(frame.finished("study"), ["k"]).runs.iterrows()

    def measured() -> dict[str, tuple[float, ...]]:
        active_units.measure(root, run, 5, 4)
        bounds.measure_trained(root, run, 1)
        critic.measure_gradients(root, run, 2)
        return {path.name: path.stat().st_mtime for path in root.glob("*.csv")}

    first = measured()
    assert len(first) == 4
    assert measured() == first
    for name in first:
        assert len(measurements.read(root / name, {"record": run["record"]}))
    monkeypatch.setattr(code, "source_digest", lambda module: "another")
    second = measured()
    assert all(second[name] > first[name] for name in first)
    runs.only_directory(root).update(record="replaced")
    with pytest.raises(UserError, match="is not the record"):
        measured()


def test_one_run_of_a_cell_is_measured_whatever_else_lies_there() -> None:
    made = made_up(
        {"k": 5, "seed": 3},
        {"k": 5, "seed": 1},
        {"k": 5, "seed": 0, "trainer.learning_rate": "0.01"},  # unlike them, and fewer
        {"objective": "vae", "k": 1, "seed": 2},
        {"objective": "vae", "k": 1, "seed": 0, "model": "two_layer"},
        {"objective": "vae", "k": 1, "seed": 0, "init_from": "another"},
    )
    first = cells.first_seeds(cells.one_layer(made).runs)
    assert first[["objective", "k", "seed"]].to_numpy().tolist() == [["vae", 1, 2], ["iwae", 5, 1]]


def test_a_fit_begins_anew_where_other_code_began_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fits, "REPORT_EVERY", 10)
    monkeypatch.setattr(fits, "NUM_NOISES", 50)
    path = tmp_path / "state.pt"
    assert [row["step"] for row in fit("banana", "hmc", 0, 20, path).rows] == [10, 20]
    monkeypatch.setattr(code, "source_digest", lambda module: "another")
    rows = fit("banana", "hmc", 0, 10, path).rows
    assert [(row["step"], row["source"]) for row in rows] == [(10, "another")]


def fitted(folder: Path, target: str, seed: int, steps: int, source: str, kl: float) -> None:
    rows = [
        {"target": target, "method": "hmc", "seed": seed, "step": step, "kl": kl, "kl_se": 0.001}
        | {
            "acceptance": 0.9,
            "seconds_per_step": 0.01,
            "step_size": 0.3,
            "sigma_1": 0.5,
            "sigma_2": 0.5,
            "budget": f"{step:,} steps",
            "source": source,
        }
        for step in range(500, steps + 1, 500)
    ]
    pd.DataFrame(rows).assign(**ORIGIN).to_csv(folder / f"{target}-hmc-s{seed}.csv", index=False)
    draws = pd.DataFrame(
        {"target": [target], "method": ["hmc"], "z_1": [0.0], "z_2": [0.0], "source": [source]}
    )
    draws.to_csv(folder / f"{target}-hmc-samples.csv", index=False)


def test_seeds_of_a_toy_that_were_fitted_unlike_are_not_averaged(tmp_path: Path) -> None:
    today = code.source_digest(fits.__name__)
    for target in ("banana", "multimodal", "x_shaped"):
        fitted(tmp_path, target, 0, 1000, today, 0.01)
    fitted(tmp_path, "banana", 1, 500, today, 0.5)
    fitted(tmp_path, "x_shaped", 1, 1000, "another", 0.7)
    found = study.find(pd.DataFrame(), tmp_path)
    assert found.results["kl"].tolist() == [0.01] * 3
    assert found.results["step"].tolist() == [1000] * 3
    assert found.notes[len(study.NOTES) :] == [
        "Left out of banana by UIVI, HMC: seed 1 (500 steps, not 1,000).",
        "Left out of x-shaped by UIVI, HMC: seed 1 (other code).",
    ]
