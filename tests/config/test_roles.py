"""What each setting is to a run is said where it is declared, and identities and params go by it."""

from typing import Any

import pytest

from evidence.config.schema.roles import Role, paths
from evidence.config.settings import Settings
from evidence.records import identity
from evidence.tracking.params import flattened

CONFIG: dict[str, Any] = {
    "k": 5,
    "seed": 1,
    "device": "cpu",
    "name": "a",
    "compile": "auto",
    "init_from": None,
    "rerun": False,
    "other_code": False,
    "plan": False,
    "fail_fast": False,
    "sync": False,
    "paths": {"data": "data", "outputs": "outputs"},
    "data": {"name": "mnist", "_target_": "evidence.data.mnist", "folder": "data", "pixels": 784},
    "model": {"name": "two_layer", "latent": [100, 50], "hidden": [[200, 200], [100, 100]]},
    "trainer": {
        "name": "quick",
        "stages": 3,
        "steps": None,
        "learning_rate": 1e-3,
        "optimizer": {"_target_": "torch.optim.Adam", "betas": [0.9, 0.999]},
        "log_every": 100,
        "checkpoint_seconds": 60,
    },
    "eval": {"name": "quick", "samples": 500, "keep_log_weights": True, "seed": 0},
    "tracking": {"name": "none", "uri": None},
    "objective": {"name": "vae", "_target_": "evidence.objectives.ELBO", "k": 5, "kl": "sampled"},
}
RECORD = {
    "train_identity": "t",
    "train_cell": "c",
    "steps": 40,
    "code": {"evidence": "e"},
    "data_digest": "d",
    "mixed": [],
}
STEPS = CONFIG | {"trainer": CONFIG["trainer"] | {"stages": None, "steps": 40}}
HASHES = {  # train, run, cell, train_cell, settings, as version 2 computed them from lists of keys
    "stages": "496ac70dac398326 a6f295001d29b63c cd574f1a7a5b4e4a 0289573e3937966c dc37f90c7d8e8d46",
    "source": "ca350c6c681bb019 c4e3e8734a6d6bf7 bd6c2f7e366dcf37 fea7e7fed7a1dc70 80b00dd94c79f9d5",
    "steps": "5925341ed7fb5c25 b4c99c07f3c9cf27 f4efe098f0bce7f2 574dae9db73b3090 463ecf4fb7f49fb8",
}


@pytest.mark.parametrize(
    ("case", "config", "source"),
    [("stages", CONFIG, None), ("source", CONFIG | {"init_from": "x"}, RECORD), ("steps", STEPS, None)],
)
def test_the_hashes_are_those_of_before(
    case: str, config: dict[str, Any], source: dict[str, Any] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "VERSION", 2)
    found = identity.identify(config, {"data": "x"}, source)
    assert " ".join([*found[:4], found.settings]) == HASHES[case]


def test_a_metric_of_the_users_is_part_of_the_runs_identity_and_not_of_the_paths() -> None:
    def measured(metrics: dict[str, Any]) -> identity.Identity:
        return identity.identify(CONFIG | {"eval": CONFIG["eval"] | {"metrics": metrics}}, {}, None)

    plain, other = identity.identify(CONFIG, {}, None), measured({"mine": {"_target_": "mine.Metric"}})
    assert measured({}) == plain
    assert (other.train, other.form) == (plain.train, plain.form)
    assert (other.run, other.cell) != (plain.run, plain.cell)


def test_each_setting_of_a_run_has_the_role_that_its_declaration_says() -> None:
    def dotted(role: Role) -> set[str]:
        return {".".join(path) for path in paths(Settings, role)}

    assert dotted(Role.END) == {"eval", "trainer.stages", "trainer.steps"}
    assert dotted(Role.FILES) == {"eval.keep_log_weights"}
    assert dotted(Role.LABEL) == {
        "eval.name",
        "trainer.name",
        "trainer.log_every",
        "trainer.checkpoint_seconds",
        "trainer.validate_every",
    }
    assert dotted(Role.SOURCE) == {"init_from"}
    where = {"compile", "data.folder", "device", "eval.rows", "name", "paths", "tags", "tracking"}
    assert dotted(Role.OUTSIDE) == where | {"fail_fast", "other_code", "plan", "rerun", "sync"}


def test_what_is_outside_of_a_run_is_no_param_and_a_label_is_one() -> None:
    params = flattened(CONFIG)
    assert params["trainer.log_every"] == "100"
    assert params["eval.name"] == "quick"
    assert "data.folder" not in params
    assert not {key for key in params if key.startswith(("tracking", "paths", "device", "init_from"))}
