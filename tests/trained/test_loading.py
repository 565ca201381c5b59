"""A trained model is opened from its folder, and what it says is what the run recorded."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import hydra
import numpy as np
import pytest
import runs
import torch
from torch import Tensor

import evidence
from evidence import data, project, tracking
from evidence.data import evenly_spaced_rows
from evidence.models import LatentVariableModel, hierarchical
from evidence.numerics import log_mean_exp
from evidence.records.directory import RunDirectory


def own_model(mean_pixels: Tensor) -> LatentVariableModel:
    """A user's own model: a small one of the package."""
    return hierarchical(64, [3], [[8]], "relu", mean_pixels)


OWN = [
    f"model._target_={__name__}.own_model",
    "~model.data_dim",
    "~model.latent",
    "~model.hidden",
    "~model.activation",
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, fresh_store: Path) -> dict[str, Path]:
    """The folders of a few runs, by what they are."""
    from evidence.runs import figures

    root = tmp_path_factory.mktemp("trained")
    shutil.copy(fresh_store, root)
    wanted = {
        "finished": ["eval.images=null", "eval.keep_log_weights=true"],
        "evaluated": ["eval.images=120"],
        "semi-implicit": ["objective=sivi", "model=semi_implicit", "tracking=none"],
        "own": [*OWN, "tracking=none"],
    }
    found: dict[str, Path] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(project, "_root", root)
        patch.setattr(figures, "draw", lambda *_: None)
        for name, words in wanted.items():
            assert runs.start(*words) == 0
            (found[name],) = {each.folder for each in runs.directories(root)} - {*found.values()}
        runs.begin("seed=7", "tracking=none")
        (found["unfinished"],) = {each.folder for each in runs.directories(root)} - {*found.values()}
    return found


@pytest.fixture
def root(trained: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    found = trained["finished"].parents[1]
    monkeypatch.setattr(project, "_root", found)
    return found


@pytest.fixture
def no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """No data set can be read."""
    for name in ("digits", "mean_pixels"):
        monkeypatch.setattr(data, name, lambda *_, **__: pytest.fail("data is read"))


def digits() -> Tensor:
    return data.digits(64, "stochastic").test


def test_importing_the_package_imports_nothing_that_takes_long() -> None:
    slow = "{'torch', 'numpy', 'hydra', 'mlflow'}"
    script = f"import sys, evidence; dir(evidence); print(sorted({slow} & {{*sys.modules}}))"
    path = {"PYTHONPATH": str(Path(evidence.__file__).parents[1])}
    said = subprocess.run(
        [sys.executable, "-c", script], env=path, capture_output=True, text=True, check=True
    )
    assert said.stdout == "[]\n"
    assert {*evidence.__all__} <= {*dir(evidence)}
    assert all(hasattr(evidence, name) for name in evidence.__all__)
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        evidence.lod  # noqa: B018


@pytest.mark.usefixtures("no_data")
def test_a_run_is_found_by_its_folder_its_name_and_its_mlflow_id(
    root: Path, trained: dict[str, Path]
) -> None:
    folder = trained["finished"]
    record = RunDirectory(folder).read()
    for given in (folder, str(folder), folder.name, run_id_of(folder)):
        found = evidence.load(given, "cpu")
        assert found.folder == folder
        assert found.step == 60
        assert found.metrics == record.metrics
        assert found.config == RunDirectory(folder).settings
        assert list(found.history.columns) == ["name", "value", "step"]
        assert [*found.history.itertuples(index=False, name=None)] == RunDirectory(folder).read_metrics()
        assert not found.model.training
    assert repr(found) == f"TrainedModel({folder.name}, step 60)"


def run_id_of(folder: Path) -> str:
    """The id of the folder's MLflow run."""
    (run,) = (run for run in runs.mlflow_runs() if run.info.run_name == folder.name)
    return run.info.run_id


def test_the_test_images_have_the_recorded_nll(root: Path, trained: dict[str, Path]) -> None:
    """Though it was trained by another program run, and in whatever state torch's generator is."""
    found = evidence.load(trained["finished"], "cpu")
    samples, before = found.config["eval"]["samples"], torch.random.get_rng_state()
    log_p = found.log_prob(digits(), samples)
    assert log_p.shape == (300,)
    assert -float(log_p.mean()) == found.metrics["test/nll"]
    assert torch.equal(torch.random.get_rng_state(), before)
    other = found.log_prob(digits(), samples, seed=1)
    assert -float(other.mean()) == pytest.approx(found.metrics["test/nll"], abs=1)
    assert not torch.equal(other, log_p)
    evaluated = evidence.load(trained["evaluated"], "cpu")  # its checkpoint is in the first folder
    rows = evenly_spaced_rows(300, 120)
    subset = -float(evaluated.log_prob(digits(), samples)[rows].mean())
    assert subset == pytest.approx(evaluated.metrics["test/nll"], rel=1e-6)


def test_the_log_weights_are_those_that_the_run_kept(root: Path, trained: dict[str, Path]) -> None:

    found = evidence.load(trained["finished"], "cpu")
    log_w = found.log_weights(digits(), found.config["eval"]["samples"])
    with np.load(found.folder / "log_weights.npz") as kept:
        assert np.array_equal(kept["log_weights"], log_w.numpy())
    some = found.log_weights(digits()[:3])
    assert some.shape == (100, 3)
    torch.testing.assert_close(log_mean_exp(some.double()), found.log_prob(digits()[:3], 100))


def test_samples_and_reconstructions_are_those_of_the_seed(root: Path, trained: dict[str, Path]) -> None:
    found = evidence.load(trained["finished"], "cpu")
    images = found.sample(5)
    assert images.shape == (5, 64)
    assert ((images > 0) & (images < 1)).all()
    assert torch.equal(images, found.sample(5))
    assert not torch.equal(images, found.sample(5, seed=1))
    x = digits()[:4].view(4, 8, 8)
    q = found.encode(x)
    assert q.mean.shape == (4, 50)
    assert not q.mean.requires_grad
    assert q.sample(3).shape == (3, 4, 50)
    again = found.reconstruct(x)
    assert again.shape == (4, 64)
    assert torch.equal(again, found.reconstruct(x))
    assert not torch.equal(again, found.reconstruct(x, seed=1))
    assert (again - x.flatten(1)).abs().mean() < (images[:4] - x.flatten(1)).abs().mean()


def test_a_semi_implicit_posterior_is_scored_and_has_no_log_weights(
    root: Path, trained: dict[str, Path]
) -> None:
    found = evidence.load(trained["semi-implicit"], "cpu")
    log_p = found.log_prob(digits(), found.config["eval"]["semi_implicit"]["samples"])
    scored = log_p[evenly_spaced_rows(300, 50)]
    assert -float(scored.mean()) == pytest.approx(found.metrics["test/nll"], rel=1e-6)
    assert found.reconstruct(digits()[:2]).shape == (2, 64)
    assert found.encode(digits()[:2]).sample(3).shape[:2] == (3, 2)
    with pytest.raises(evidence.UserError, match=r"semi-implicit and has no density.*log_prob"):
        found.log_weights(digits())


def test_an_unfinished_run_has_its_latest_checkpoint_and_the_rows_that_it_commits(
    root: Path, trained: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    found = evidence.load(trained["unfinished"], "cpu")
    assert found.step == 40
    assert found.metrics == {}
    assert found.history["step"].max() == 40
    assert found.log_prob(digits()[:2], 10).isfinite().all()
    copy = shutil.copytree(trained["unfinished"], root / "outputs" / "damaged")
    (copy / "checkpoints" / "000000040.pt").write_bytes(b"")
    earlier = evidence.load("damaged", "cpu")
    assert earlier.step == earlier.history["step"].max() == 20
    assert "000000040.pt cannot be read (its checksum is wrong): left out" in capsys.readouterr().err
    shutil.rmtree(copy / "checkpoints")
    with pytest.raises(evidence.UserError, match=r"damaged has no checkpoint that can be read.*KILLED"):
        evidence.load(copy)
    shutil.rmtree(copy)


@pytest.mark.usefixtures("no_data")
def test_a_folder_may_be_moved_and_a_model_be_the_users_own(
    root: Path, trained: dict[str, Path], tmp_path: Path
) -> None:
    moved = shutil.copytree(trained["own"], tmp_path / "elsewhere")
    found = evidence.load(moved, "cpu")
    expected = runs.last_state(RunDirectory(trained["own"]))["model"]
    assert all(torch.equal(value, expected[name]) for name, value in found.model.state_dict().items())
    assert found.model.latent_sizes == [3]


def test_what_is_missing_or_damaged_is_one_line(root: Path, trained: dict[str, Path], tmp_path: Path) -> None:
    name = trained["finished"].name

    def complaint(run: str | Path) -> str:
        with pytest.raises(evidence.UserError) as caught:
            evidence.load(run)
        (line,) = str(caught.value).splitlines()
        return line

    assert complaint(f"{name}x").endswith(f"did you mean '{name}'?")
    assert complaint("0" * 32).endswith(f"mlflow.db has no run {'0' * 32}")
    assert complaint(tmp_path) == f"{tmp_path} is no run's folder: it has no result.json"
    copy = shutil.copytree(trained["finished"], tmp_path / name)
    (copy / "checkpoints" / "000000060.pt").unlink()
    assert complaint(copy) == f"{name}: its last checkpoint is missing or damaged"
    text = (copy / "config.yaml").read_text()
    (copy / "config.yaml").write_text(text.replace("batch_size:", "batch_sise:"))
    assert complaint(copy).endswith(
        "config.yaml cannot be read (it has other settings than the run was computed with)"
    )
    RunDirectory(copy).update(settings_identity="")  # as a record that does not tell
    assert complaint(copy).startswith(f"{copy}/config.yaml: unknown key 'trainer.batch_sise'")
    (copy / "config.yaml").write_text(re.sub("_target_: evidence.models.*", "_target_: nowhere.model", text))
    (copy / "checkpoints" / "000000060.pt").write_bytes(
        (trained["finished"] / "checkpoints" / "000000060.pt").read_bytes()
    )
    assert complaint(copy).startswith("model._target_=nowhere.model: there is no module 'nowhere'")
    (copy / "config.yaml").write_text(text.replace("- 200", "- 20"))
    assert "000000060.pt does not suit model._target_=evidence.models.hierarchical" in complaint(copy)
    (copy / "result.json").write_text("{")
    assert complaint(copy).startswith(f"{copy}/result.json cannot be read (")


def test_a_run_of_mlflow_whose_folder_is_gone_or_renamed(
    root: Path, trained: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = trained["finished"]
    number = run_id_of(folder)
    renamed = folder.rename(folder.with_name("best"))
    try:
        assert evidence.load(number, "cpu").folder == renamed
        away = renamed.rename(root / "best")
        monkeypatch.setattr(tracking, "download", lambda *_: None)  # its model is not in MLflow either
        with pytest.raises(evidence.UserError, match=f"{number} is not here: .*{folder.name} was its place"):
            evidence.load(number)
        away.rename(renamed)
    finally:
        renamed.rename(folder)


@pytest.mark.usefixtures("no_figures")
def test_a_run_is_computed_from_python_once_as_from_the_command_line(
    root: Path, trained: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*runs.SMALL, "eval.images=null", "eval.keep_log_weights=true"]
    assert evidence.run(words).folder == trained["finished"]
    unfinished = evidence.run([*runs.SMALL, "seed=7", "tracking=none"])
    assert unfinished.folder == trained["unfinished"]
    assert unfinished.step == 60
    assert "goes on from step 40 to 60" in capsys.readouterr().err
    with hydra.initialize(version_base=None):  # the caller is a Hydra program itself
        assert evidence.run(words).folder == trained["finished"]
        assert hydra.compose() == {}
    for wrong, said in (("k=0", "k=0: must be at least 1"), ("-m", "not -m"), ("plan=true", "one run")):
        with pytest.raises(evidence.UserError, match=said):
            evidence.run([*runs.SMALL, wrong])


def test_counts_and_seeds_are_checked(root: Path, trained: dict[str, Path]) -> None:
    found = evidence.load(trained["finished"], "cpu")
    for call, said in (
        (lambda: found.sample(0), "num_images=0: must be a whole number, at least 1"),
        (lambda: found.sample(2.5), "num_images=2.5: must be a whole number, at least 1"),
        (lambda: found.sample(2, seed=1.5), "seed=1.5: must be a whole number from 0 to"),
        (lambda: found.log_prob(digits(), 0), "num_samples=0: must be a whole number, at least 1"),
        (lambda: found.log_prob(digits(), 1, seed=-1), "seed=-1: must be a whole number"),
        (lambda: found.encode(digits() / 2), "binarize='threshold'"),
    ):
        with pytest.raises(evidence.UserError, match=said):
            call()
