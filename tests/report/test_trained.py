"""A finished run's model, had again for what is measured beside the runs."""

from pathlib import Path

import pytest
import runs
import torch

from evidence.errors import UserError
from evidence.records.directory import RunDirectory
from evidence.report import measurements


@pytest.mark.usefixtures("no_figures")
def test_a_run_is_had_again_though_another_one_trained_it(root: Path) -> None:
    assert runs.start() == 0
    (directory,) = runs.directories(root)
    assert runs.start("eval.samples=7") == 0
    (evaluated,) = (other for other in runs.directories(root) if other.folder != directory.folder)
    assert not any(evaluated.checkpoints())  # its checkpoint is the other's

    expected = runs.last_state(directory)["model"]
    rows = [{"folder": each.read().folder, "record": each.read().record} for each in (directory, evaluated)]
    for run in rows:
        again = measurements.trained(run)
        model = again.model.state_dict()
        assert all(torch.equal(value, expected[name]) for name, value in model.items())

    directory.checkpoints()[60].unlink()
    with pytest.raises(
        UserError, match=f"{evaluated.folder.name}: its last checkpoint is missing or damaged"
    ):
        measurements.trained(rows[1])


def test_a_folder_that_holds_another_record_by_now_is_not_taken_for_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    directory = RunDirectory(tmp_path / "vae-k1")
    directory.folder.mkdir()
    directory.update(record="b", status="FINISHED")
    for folder, record in (("vae-k1", "a"), ("iwae-k5", "b")):
        with pytest.raises(UserError, match=f"{folder} is not the record {record} that MLflow has"):
            measurements.trained({"folder": folder, "record": record})
