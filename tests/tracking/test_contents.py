"""What MLflow has of a run besides its numbers: the data set, the model, the user's tags, its sweep, and its page."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import runs
import torch
from runs import CONF, client, directories, mlflow_runs, only_directory, said, start

import evidence
from evidence import project, tracking
from evidence.cli.command_line import main
from evidence.config.schema import tags
from evidence.tracking import contents, mlflow_sync, ui, view

pytestmark = pytest.mark.usefixtures("no_figures")
SMALL = [*runs.SMALL, "trainer.steps=20", "model.hidden=[[20]]", "model.latent=[4]"]


def opened(run_id: str) -> Any:
    """The model that MLflow opens."""
    import mlflow.pytorch

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{project.root() / 'mlflow.db'}")
        return mlflow.pytorch.load_model(f"runs:/{run_id}/model")


def all_runs() -> list[Any]:
    """Those of sweeps too."""
    experiment = client().get_experiment_by_name("evidence")
    return list(client().search_runs([experiment.experiment_id]))


def content(run_id: str) -> dict[str, Any]:
    """All of a run that a second delivery might change."""
    run = client().get_run(run_id)
    inputs = [each.to_dictionary() for each in run.inputs.dataset_inputs]
    return {**run.to_dictionary()["data"], "info": run.to_dictionary()["info"], "inputs": inputs}


@pytest.mark.parametrize("is_late", [False, True])
def test_a_model_is_opened_by_mlflow_and_by_evidence(is_late: bool, root: Path) -> None:
    assert start("tracking=none" if is_late else "tracking=mlflow") == 0
    if is_late:
        assert main(["sync=all"], CONF) == 0
    (run,) = mlflow_runs()
    model, ours = opened(run.info.run_id), evidence.load(run.info.run_id).model
    assert not model.training
    assert model.state_dict().keys() == ours.state_dict().keys()
    assert all(torch.equal(theirs, ours.state_dict()[key]) for key, theirs in model.state_dict().items())
    folder = Path(run.info.artifact_uri.removeprefix("file://")) / "model"
    assert "evidence-vi==" in (folder / "requirements.txt").read_text()
    size = (folder / "data" / "model.pth").stat().st_size
    assert size < only_directory(root).checkpoints()[60].stat().st_size / 2  # without the optimizer's state


def test_a_model_is_opened_from_mlflow_where_its_folder_is_not_here(root: Path) -> None:
    assert start() == 0
    (run,) = mlflow_runs()
    ours = evidence.load(run.info.run_id, "cpu")
    (root / "outputs").rename(root / "away")
    found = evidence.load(run.info.run_id, "cpu")
    assert torch.equal(found.sample(3), ours.sample(3))
    assert (found.metrics, found.config, found.step) == (ours.metrics, ours.config, 60)
    assert found.history.equals(ours.history)
    (file,) = root.rglob("model/data/model.pth")
    torch.save(Path(root), file)  # a pickle that calls something else
    with pytest.raises(
        evidence.UserError, match=f"the model of the MLflow run {run.info.run_id} cannot be read"
    ):
        evidence.load(run.info.run_id)
    file.unlink()
    with pytest.raises(evidence.UserError, match=f"{run.info.run_id} is not here"):
        evidence.load(run.info.run_id)


def test_a_run_that_only_evaluates_has_the_model_too(root: Path) -> None:
    assert start() == 0
    assert start("eval.images=40") == 0
    first, second = (opened(run.info.run_id).state_dict() for run in mlflow_runs())
    assert all(torch.equal(value, second[key]) for key, value in first.items())


def test_the_data_set_is_an_input_with_its_digest_and_binarization(root: Path) -> None:
    assert start("data.binarization=threshold") == 0
    assert start("data.binarization=threshold", "seed=1") == 0
    for run in mlflow_runs():
        (found,) = run.inputs.dataset_inputs
        assert (found.dataset.name, found.dataset.digest) == (
            "digits",
            directories(root)[0].read().data_digest,
        )
        assert json.loads(found.dataset.profile)["binarization"] == "threshold"
        assert {tag.key: tag.value for tag in found.tags}["binarization"] == "threshold"
        assert "sha256" in found.dataset.source


def test_a_second_delivery_changes_nothing(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMALL, "-m", "seed=0,1", "tags.paper=draft"], CONF) == 0
    before = {run.info.run_id: content(run.info.run_id) for run in all_runs()}
    store = tracking.Store(None, "evidence", root)
    for directory in directories(root):
        assert not mlflow_sync.ensure_delivered(directory, store)
        run = tracking.find_run(store, directory.read().record)
        assert run is not None
        mlflow_sync.deliver(directory, run, root)
    assert {run.info.run_id: content(run.info.run_id) for run in all_runs()} == before
    assert len(before) == 3


def test_what_an_earlier_version_did_not_deliver_is_delivered(root: Path) -> None:
    assert start() == 0
    (run,) = mlflow_runs()
    client().delete_tag(run.info.run_id, mlflow_sync.DELIVERY)
    store = tracking.Store(None, "evidence", root)
    assert mlflow_sync.ensure_delivered(only_directory(root), store)
    assert not mlflow_sync.ensure_delivered(only_directory(root), store)


def test_a_users_tag_is_typed_and_is_no_part_of_what_a_run_is(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert start("tags.paper=draft") == 0
    assert start("tags.figure=2", "+tags.final=true") == 0  # of the finished run
    assert start() == 0
    (run,) = mlflow_runs()
    wanted = {"paper": "draft", "figure": "2", "final": "true"}
    assert wanted.items() <= run.data.tags.items()
    assert only_directory(root).read().tags == wanted
    assert not {key for key in run.data.params if key.startswith("tags")}
    for word, complaint in (
        ("tags.record=x", "is a tag that a run sets itself: choose another name"),
        ("tags.mlflow.user=x", "tags.mlflow"),
        ("tags.a=null", "tags.a=null"),
    ):
        capsys.readouterr()
        assert start(word) == 2
        (line,) = said(capsys)
        assert complaint in line
    assert len(directories(root)) == 1


def test_tags_that_a_run_sets_are_not_for_the_user(root: Path) -> None:
    assert main([*SMALL, "-m", "seed=0"], CONF) == 0
    found = {name for run in all_runs() for name in run.data.tags}
    ours = {name for name in found if not name.startswith("mlflow.")}
    assert ours <= tags.OWN
    assert tags.OWN - ours == {"undelivered", "parent", "init_from", "mixed"}


@pytest.mark.parametrize("is_late", [False, True])
def test_the_runs_of_a_sweep_are_below_the_sweeps_run(is_late: bool, root: Path) -> None:
    words = [*SMALL, "-m", "seed=0,1", "objective=vae,iwae", *(["tracking=none"] if is_late else [])]
    assert main(words, CONF) == 0
    assert main(words, CONF) == 0  # the same sweep
    if is_late:
        assert main(["sync=all"], CONF) == 0
        assert main(["sync=all"], CONF) == 0
    (parent,) = [run for run in all_runs() if "sweep_parent" in run.data.tags]
    found = mlflow_runs()
    assert len(found) == 4
    assert {run.data.tags["mlflow.parentRunId"] for run in found} == {parent.info.run_id}
    assert {run.data.tags["sweep_id"] for run in found} == {parent.data.tags["sweep_parent"]}
    assert "objective=vae,iwae" in parent.data.tags["sweep"]
    assert parent.info.status == "FINISHED"
    assert parent.info.end_time == max(run.info.end_time for run in found)
    assert parent.info.start_time <= min(run.info.start_time for run in found)
    assert (
        main([*SMALL, "-m", "seed=1,2", "objective=vae"], CONF) == 0
    )  # another sweep takes a finished run over
    parents = [run for run in all_runs() if "sweep_parent" in run.data.tags]
    assert len(parents) == 2
    numbers = [run.data.tags["mlflow.parentRunId"] for run in mlflow_runs()]
    assert sorted(numbers.count(each.info.run_id) for each in parents) == [2, 3]
    assert len(tracking.recorded(None, root, "evidence")) == 5


def test_a_run_says_what_it_is_and_a_users_description_stays(root: Path) -> None:
    runs.begin()
    (run,) = mlflow_runs()
    assert (
        "**iwae** with k = 3, model one_layer, on digits (stochastic binarization)"
        in run.data.tags[contents.NOTE]
    )
    assert run.data.tags["mlflow.source.name"] in ("run.py", "evidence")
    client().set_tag(run.info.run_id, contents.NOTE, "mine")
    assert start() == 0
    (run,) = mlflow_runs()
    assert run.data.tags[contents.NOTE] == "mine"
    assert run.data.params["passes"] == f"{60 / 69:.4g}"


def test_an_experiments_page_has_its_columns_and_charts_chosen(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SMALL, "name=mine"], CONF) == 0
    (run,) = mlflow_runs(name="mine")
    saved = client().get_experiment_by_name("mine").tags[view.TAG]
    state = json.loads(json.loads(saved)["state"])
    known = {f"params.`{name}`" for name in run.data.params} | {
        f"metrics.`{name}`" for name in run.data.metrics
    }
    assert state["selectedColumns"]
    assert set(state["selectedColumns"]) <= known
    assert set(state["columnOrder"]) - known == set(view.ALWAYS)
    charts = [chart["metricKey"] for chart in state["compareRunCharts"]]
    assert charts[0] == "valid/nll"
    assert set(charts) <= run.data.metrics.keys()
    assert len(saved) < 5000  # what MLflow takes
    client().set_experiment_tag(run.info.experiment_id, view.TAG, "older")
    capsys.readouterr()
    assert ui.main(["--port=5001", "--workers", "1"]) == 0
    number = run.info.experiment_id
    assert capsys.readouterr().out == (
        f"the runs of mine: http://127.0.0.1:5001/#/experiments/{number}/runs?{view.QUERY}\n"
    )
    assert client().get_experiment_by_name("mine").tags[view.TAG] == saved


@pytest.mark.parametrize("make", [lambda path: path.symlink_to("/dev/zero"), os.mkfifo, Path.mkdir])
def test_what_has_no_end_is_not_delivered(make: Callable[[Path], None], root: Path) -> None:
    assert start("tracking=none") == 0
    directory = only_directory(root)
    directory.log.unlink()
    for path in (directory.log, directory.figures / "units.png"):
        make(path)
    given = {path.name for path, _ in contents.artifacts(directory, contents.record_of(directory))}
    assert given == {"config.yaml", "result.json", "metrics.csv"}


def test_the_code_of_a_run_is_told_by_its_parts(root: Path) -> None:
    assert start() == 0
    (run,) = mlflow_runs()
    record = contents.record_of(only_directory(root))
    assert json.loads(run.data.tags["code"]) == record.code
    assert run.data.tags["code_package"] == record.provenance["code_package"]
