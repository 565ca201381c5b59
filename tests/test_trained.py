"""A finished run's model, had again for what is measured beside the runs."""

from pathlib import Path

import pytest
import runs
import torch

from evidence.errors import UserError
from experiments import trained


@pytest.mark.usefixtures("no_figures")
def test_a_run_is_had_again_though_another_one_trained_it(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trained, "ROOT", root)
    assert runs.start() == 0
    (home,) = runs.homes(root)
    assert runs.start("eval.samples=7") == 0
    (evaluated,) = (other for other in runs.homes(root) if other.folder != home.folder)
    assert not any(evaluated.checkpoints())  # its checkpoint is the other's

    expected = runs.last_state(home)["model"]
    for folder in (home.folder, evaluated.folder):
        again = trained.trained(str(folder.relative_to(root)))
        assert again.steps == 60
        model = again.parts.model.state_dict()
        assert all(torch.equal(value, expected[name]) for name, value in model.items())

    home.checkpoints()[60].unlink()
    with pytest.raises(
        UserError, match=f"{evaluated.folder.name}: its last checkpoint is missing or damaged"
    ):
        trained.trained(str(evaluated.folder))
