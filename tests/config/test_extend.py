"""The pages of docs/extend: their files, added to a copy of the repository, make a run, and their own tests pass."""

import json
import re
import subprocess
import sys
from pathlib import Path

import documents
import numpy as np
import pytest

COUNTS = {
    "An objective in the repository": 4,
    "A convolutional model": 2,
    "A posterior from a library": 2,
    "A likelihood": 2,
    "A model in the repository": 4,
    "A data set from a file": 2,
    "A data set in the repository": 3,
    "A metric of your own": 2,
    "A metric of every run": 2,
    "A study in the repository": 3,
}  # of files
NEIGHBOUR = re.compile(
    r'^( +)"effective_sample_size": (\w+)\.weights\.effective_sample_size,\n', re.MULTILINE
)


def additions() -> dict[str, list[tuple[str, str]]]:
    """By the heading of a section: the paths and the code of its blocks."""
    text = "\n".join(path.read_text() for path in documents.ROOT.glob("docs/extend/*.md"))
    parts = re.split(r"^## (.+)$", text, flags=re.MULTILINE)[1:]
    return {name: documents.files(part) for name, part in zip(parts[::2], parts[1::2], strict=True)}


def add(root: Path, path: str, code: str) -> None:
    """A file of its own, a class at the end of a file, or a line in the evaluator's dict."""
    file = root / path
    if not code.startswith('"') or code.startswith('"""'):
        before = f"{file.read_text()}\n\n" if file.exists() else ""
        file.parent.mkdir(exist_ok=True)
        file.write_text(before + code)
        return
    text = file.read_text()
    (neighbour,) = NEIGHBOUR.finditer(text)
    line = code.replace("found.", f"{neighbour[2]}.")
    file.write_text(f"{text[: neighbour.end()]}{neighbour[1]}{line}{text[neighbour.end() :]}")


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository with all that the pages add."""
    root = documents.copy_of_the_repository(tmp_path_factory.mktemp("extended"))
    for blocks in additions().values():
        for path, code in blocks:
            add(root, path, code)
    return root


def call(root: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        cwd=root,
        env=documents.environment(root) | more,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_section_touches_as_few_files_as_it_says() -> None:
    assert {name: len(blocks) for name, blocks in additions().items() if blocks} == COUNTS


def test_what_is_added_runs_and_is_scored(extended: Path) -> None:
    added = ("objective=jvi", "model=affine", "data=large_digits", "trainer=smoke", "eval=smoke")
    ended = call(extended, "run.py", *added, "trainer.steps=20", "tracking=none")
    assert ended.returncode == 0, ended.stderr
    (result,) = extended.glob("outputs/jvi-k5-affine-large_digits-*/result.json")
    assert '"test/reconstruction"' in result.read_text()


OWN = ("trainer=smoke", "trainer.steps=3", "eval.samples=20", "eval.images=20", "tracking=none", "k=2")


@pytest.mark.parametrize("model", ["convolutional", "flow", "flipped"])
def test_a_model_of_ones_own_is_scored_on_ones_own_data_by_ones_own_metric(
    model: str, extended: Path
) -> None:
    if model == "flow":
        pytest.importorskip("zuko", reason="zuko, of the dev extra, is not installed")
    images = np.random.default_rng(0).integers(0, 2, (3, 50, 784)).astype(np.uint8)
    (extended / "data").mkdir(exist_ok=True)
    np.savez(extended / "data" / "images.npz", train=255 * images[0], valid=images[1], test=images[2])
    own = (f"model={model}", "data=arrays", "eval=largest_weight", f"paths.data={extended / 'data'}")
    ended = call(extended, "run.py", *own, *OWN)
    assert ended.returncode == 0, ended.stderr
    (result,) = extended.glob(f"outputs/*-{model}-arrays-*/result.json")
    assert 1 / 20 <= json.loads(result.read_text())["metrics"]["test/largest_weight"] <= 1


def test_a_posterior_without_log_prob_is_refused_only_by_the_critic_that_differentiates_it(
    extended: Path,
) -> None:
    pytest.importorskip("zuko", reason="zuko, of the dev extra, is not installed")
    flow = ("objective=critic", "model=flow", "data=digits", "eval=smoke", *OWN)
    refused = call(extended, "run.py", *flow, "objective.encoder=path")
    assert refused.returncode == 1
    assert "which has no log_prob" in refused.stderr
    ended = call(extended, "run.py", *flow, "objective.encoder=elbo")
    assert ended.returncode == 0, ended.stderr


def test_another_argument_of_a_metric_scores_the_same_training_again(extended: Path) -> None:
    small = ("data=digits", "trainer=smoke", "trainer.steps=40", "k=2", "name=metrics", "eval=largest_weight")
    small += ("eval.samples=20", "eval.images=20")
    store = {"MLFLOW_TRACKING_URI": f"sqlite:///{extended / 'metrics.db'}"}
    first = call(extended, "run.py", *small, **store)
    assert "step 20/40" in first.stderr, first.stderr
    again = call(extended, "run.py", *small, "eval.metrics.largest_weight.temperature=5.0", **store)
    assert again.returncode == 0, again.stderr
    assert "step 20/40" not in again.stderr  # it has not trained
    script = "from evidence import report; print(*report.runs('metrics')['test/largest_weight'])"
    hot, cold = map(float, call(extended, "-c", script, **store).stdout.split())  # the latest first
    assert 1 / 20 <= hot < cold <= 1
    written = call(extended, "run.py", "report", "--experiment", "metrics", **store)
    assert written.returncode == 0, written.stderr
    page = (extended / "outputs" / "report" / "metrics" / "report.md").read_text()
    assert "| eval.metrics.largest_weight.temperature | n |" in page
    assert f"| {hot:.3f} |" in page


def test_the_study_trains_and_is_in_the_report(extended: Path) -> None:
    ended = call(extended, "-m", "experiments", "digits-k")
    assert ended.returncode == 0, ended.stderr
    assert "digits-k       claims:" in ended.stdout
    report = (extended / "outputs" / "report" / "report.md").read_text()
    assert re.search(r"The IWAE's NLL falls with k\.\n  - by -?\d+\.\d\d nats; 1 pass, one seed", report)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("objective=jvi k=1", "objective.k=1: must be at least 2"),
        ("objective=jvi model=semi_implicit", "choose model=one_layer, two_layer, explicit or affine"),
        ("objective=jvi objective.num_exact=2", "unknown key 'objective.num_exact'"),
        ("model=affine model.data_dim=3", "model.data_dim=3: must be data.pixels=784"),
        ("data=large_digits data.binarization=fixed", "must be one of stochastic, threshold"),
    ],
)
def test_what_is_added_is_checked_like_the_rest(typed: str, said: str, extended: Path) -> None:
    ended = call(extended, "run.py", *typed.split())
    assert ended.returncode == 2
    assert said in ended.stderr


def test_the_tests_of_what_is_added_pass(extended: Path) -> None:
    files = [path for blocks in additions().values() for path, _ in blocks if path.startswith("tests/")]
    named = "tests/config/test_configs.py::test_each_choice_is_named_by_the_section_that_reads_it[objective-Objective]"
    ended = call(
        extended, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files, named, "tests/test_architecture.py"
    )
    assert ended.returncode == 0, ended.stdout
