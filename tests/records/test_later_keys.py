"""Records of before a key was there: their settings are completed by what was then done."""

from pathlib import Path

import pytest
import runs
import yaml
from runs import only_directory, start

import evidence
from evidence.config.settings import LATER, validate

pytestmark = pytest.mark.usefixtures("no_figures")


def test_a_record_without_the_later_keys_is_opened_continued_and_started_from(root: Path) -> None:
    assert start("tracking=none") == 0
    directory = only_directory(root)
    config = yaml.safe_load(directory.config.read_text())
    del config["tags"]
    for name, keys in LATER.items():
        for key in keys:
            del config[name][key]
    directory.config.write_text(yaml.safe_dump(config, sort_keys=False))
    assert validate(directory.settings).trainer.validate_every is None
    assert evidence.load(directory.folder).step == 60
    assert start("tracking=none", f"init_from={directory.folder.name}", "objective=vae") == 0
    assert start() == 0  # it is delivered
    (run,) = runs.mlflow_runs()
    assert run.data.params["trainer.validate_every"] == "null"
