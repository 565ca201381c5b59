"""MLflow tells runs apart: every setting is a param, whatever a user's own options are called and hold."""

from pathlib import Path
from typing import Any

import pytest
import runs

from evidence import tracking
from evidence.records import identity
from evidence.report import frame
from evidence.tracking.params import flattened, shortened

MAIN = {"objective", "variant", "k", "model", "data", "seed", "trainer", "stages", "batch_size", "latent_dim"}
ODD: dict[str, Any] = {
    "π and more": 1,
    "a.b": 2,
    "a": {"b": 3, "": 4, "c": {}},
    "..": 5,
    "/root": 6,
    "x" * 300: 7,
    "x" * 299 + "y": 8,
    "per cent %": 9,
    "per cent &": 10,
    "new\nline": 11,
    "🦉": 12,
}


@pytest.mark.usefixtures("no_figures")
def test_runs_that_differ_in_any_setting_have_other_params(root: Path) -> None:
    changes = [
        "trainer.learning_rate=0.01",
        "trainer.optimizer.eps=0.5",
        "model.hidden=[[20,20]]",
        "model.activation=relu",
        "data.binarization=threshold",
        "trainer.scale_rate=0.5",
    ]
    for change in ("seed=0", *changes):
        assert runs.start("name=sweep", "objective=vae", "k=1", "trainer.steps=20", change) == 0
    found = frame.runs("sweep").set_index("run_id")
    base = found[found["trainer.learning_rate"] == "0.001"]
    params = [run.data.params for run in runs.mlflow_runs(name="sweep")]
    assert len({tuple(sorted(each.items())) for each in params}) == len(changes) + 1
    assert len({tuple(sorted((key, each[key]) for key in MAIN)) for each in params}) == 1  # these cannot tell
    for change in changes:
        key, _, value = change.partition("=")
        (differing,) = (each for each in params if each[key].replace(" ", "") == value)
        others = [each for each in params if each is not differing]
        assert value not in {each[key].replace(" ", "") for each in others}
    assert len(base) == len(changes)
    shown = {key.partition(".")[0] for key in params[0]}
    assert shown.isdisjoint({"tracking", "paths", "rerun", "plan", "sync", "name", "device", "other_code"})


@pytest.mark.usefixtures("no_figures")
def test_where_a_run_computes_and_who_watches_are_no_params(root: Path) -> None:
    config = runs.settings("tracking.uri=http://me:secret@host").model_dump(by_alias=True)
    found = flattened(config | {"objective": config["objective"] | {"mirror": ["ftp://me:secret@host/x"]}})
    assert "secret" not in str(found)
    assert found["objective.mirror"] == '["ftp://host/x"]'
    assert not any("outputs" in value or "mlruns" in value for value in found.values())
    assert "init_from" not in found  # where there is none
    assert flattened(config | {"init_from": "vae-k1"})["init_from"] == "vae-k1"


def test_odd_keys_and_long_values_are_logged_and_stay_different(root: Path) -> None:
    long = [{"files": ["a" * 7000]}, {"files": ["a" * 6999 + "b"]}]
    params = flattened({"objective": ODD | {"first": long[0], "second": long[1]}})
    assert len(params) == 15
    assert sorted(params[key] for key in params if params[key].isdigit()) == sorted(map(str, range(1, 13)))
    assert params["objective.a.b"] == "3"
    assert params["objective.a.c"] == "{}"
    assert params["objective.first.files"] != params["objective.second.files"]
    assert {len(params[f"objective.{name}.files"]) for name in ("first", "second")} == {500}
    run = tracking.create_run(tracking.Store(None, "odd", root), "odd", {})
    many = {f"objective.option_{number}": str(number) for number in range(250)}
    run.add_params(params | many)
    stored = runs.client(f"sqlite:///{root / 'mlflow.db'}").get_run(run.run_id).data.params
    assert stored == params | many


def test_params_that_a_broken_off_call_has_left_out_are_added(root: Path) -> None:
    store = tracking.Store(None, "broken off", root)
    tracking.create_run(store, "a", {"record": "r"}).add_params({"k": 1})
    run = tracking.find_run(store, "r")
    assert run is not None
    run.add_params({"k": 2, "trainer.learning_rate": "0.1"})
    found = tracking.find_run(store, "r")
    assert found is not None
    stored = runs.client(f"sqlite:///{root / 'mlflow.db'}").get_run(found.run_id).data.params
    assert stored == {"k": "1", "trainer.learning_rate": "0.1"}


def test_only_long_texts_are_shortened() -> None:
    assert shortened("a" * 500) == "a" * 500
    assert len(shortened("a" * 501)) == 500
    assert shortened("a" * 501) != shortened("a" * 502)


@pytest.mark.parametrize("latent", [[3, "many"], "many", {"a": 1}, [[1], [2]]])
def test_sizes_of_a_users_model_may_be_anything(latent: Any) -> None:
    config = runs.settings().model_dump(by_alias=True)
    params = identity.params(config | {"model": config["model"] | {"latent": latent}}, 1, 1)
    assert "latent_dim" not in params
    assert identity.params(config, 1, 1)["latent_dim"] == 50
