"""The pages of docs/extend: their files, added to a copy of the repository, make a run, and their own tests pass."""

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

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

# run.py with each of the command lines in turn, which one import of torch is enough for.
IN_TURN = """
import contextlib, io, json, sys
import run
ended = []
for words in json.loads(sys.argv[1]):
    with contextlib.redirect_stderr(io.StringIO()) as said:
        ended.append((run.main(words, conf=run.HERE / "conf"), said))
print(json.dumps([(status, said.getvalue()) for status, said in ended]))
"""


class Ended(NamedTuple):
    """The status of a command, and what it wrote to stderr."""

    status: int
    said: str


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


def in_turn(root: Path, *lines: Sequence[str], **more: str) -> list[Ended]:
    """How these command lines of run.py ended, one after the other in one process."""
    ended = call(root, "-c", IN_TURN, json.dumps(lines), **more)
    assert ended.returncode == 0, ended.stderr
    return [Ended(*each) for each in json.loads(ended.stdout.splitlines()[-1])]


def test_a_section_touches_as_few_files_as_it_says() -> None:
    assert {name: len(blocks) for name, blocks in additions().items() if blocks} == COUNTS


def test_what_is_added_runs_and_is_scored(extended: Path) -> None:
    added = ("objective=jvi", "model=affine", "data=large_digits", "trainer=smoke", "eval=smoke")
    ended = call(extended, "run.py", *added, "trainer.steps=20", "tracking=none")
    assert ended.returncode == 0, ended.stderr
    (result,) = extended.glob("outputs/jvi-k5-affine-large_digits-*/result.json")
    assert '"test/reconstruction"' in result.read_text()


OWN = ("trainer=smoke", "trainer.steps=3", "eval.samples=20", "eval.images=20", "tracking=none", "k=2")


MODELS = ["convolutional", "flow", "flipped"]


@pytest.fixture(scope="module")
def scored(extended: Path) -> dict[str, Ended]:
    """How the runs of models of one's own ended."""
    images = np.random.default_rng(0).integers(0, 2, (3, 50, 784)).astype(np.uint8)
    (extended / "data").mkdir(exist_ok=True)
    np.savez(extended / "data" / "images.npz", train=255 * images[0], valid=images[1], test=images[2])
    own = ("data=arrays", "eval=largest_weight", f"paths.data={extended / 'data'}", *OWN)
    ended = in_turn(extended, *([f"model={model}", *own] for model in MODELS))
    return dict(zip(MODELS, ended, strict=True))


@pytest.mark.parametrize("model", MODELS)
def test_a_model_of_ones_own_is_scored_on_ones_own_data_by_ones_own_metric(
    model: str, extended: Path, scored: dict[str, Ended]
) -> None:
    if model == "flow":
        pytest.importorskip("zuko", reason="zuko, of the dev extra, is not installed")
    assert scored[model].status == 0, scored[model].said
    (result,) = extended.glob(f"outputs/*-{model}-arrays-*/result.json")
    assert 1 / 20 <= json.loads(result.read_text())["metrics"]["test/largest_weight"] <= 1


def test_a_posterior_without_log_prob_is_refused_only_by_the_critic_that_differentiates_it(
    extended: Path,
) -> None:
    pytest.importorskip("zuko", reason="zuko, of the dev extra, is not installed")
    flow = ("objective=critic", "model=flow", "data=digits", "eval=smoke", *OWN)
    encoders = ("objective.encoder=path", "objective.encoder=elbo")
    refused, ended = in_turn(extended, *([*flow, encoder] for encoder in encoders))
    assert refused.status == 1
    assert "which has no log_prob" in refused.said
    assert ended.status == 0, ended.said


def test_another_argument_of_a_metric_scores_the_same_training_again(extended: Path) -> None:
    small = ("data=digits", "trainer=smoke", "trainer.steps=40", "k=2", "name=metrics", "eval=largest_weight")
    small += ("eval.samples=20", "eval.images=20")
    store = {"MLFLOW_TRACKING_URI": f"sqlite:///{extended / 'metrics.db'}"}
    hotter = (*small, "eval.metrics.largest_weight.temperature=5.0")
    report = ("report", "--experiment", "metrics")
    first, again, written = in_turn(extended, small, hotter, report, **store)
    assert "step 20/40" in first.said, first.said
    assert again.status == 0, again.said
    assert "step 20/40" not in again.said  # it has not trained
    script = "from evidence import report; print(*report.runs('metrics')['test/largest_weight'])"
    hot, cold = map(float, call(extended, "-c", script, **store).stdout.split())  # the latest first
    assert 1 / 20 <= hot < cold <= 1
    assert written.status == 0, written.said
    page = (extended / "outputs" / "report" / "metrics" / "report.md").read_text()
    assert "| eval.metrics.largest_weight.temperature | n |" in page
    assert f"| {hot:.3f} |" in page


def test_the_study_trains_and_is_in_the_report(extended: Path) -> None:
    ended = call(extended, "-m", "experiments", "digits-k")
    assert ended.returncode == 0, ended.stderr
    assert "digits-k       claims:" in ended.stdout
    report = (extended / "outputs" / "report" / "report.md").read_text()
    assert re.search(r"The IWAE's NLL falls with k\.\n  - by -?\d+\.\d\d nats; 1 pass, one seed", report)


REFUSED = {
    "objective=jvi k=1": "objective.k=1: must be at least 2",
    "objective=jvi model=semi_implicit": "choose model=one_layer, two_layer, explicit or affine",
    "objective=jvi objective.num_exact=2": "unknown key 'objective.num_exact'",
    "model=affine model.data_dim=3": "model.data_dim=3: must be data.pixels=784",
    "data=large_digits data.binarization=fixed": "must be one of stochastic, threshold",
}


def test_what_is_added_is_checked_like_the_rest(extended: Path) -> None:
    ended = in_turn(extended, *(typed.split() for typed in REFUSED))
    assert [each.status for each in ended] == [2] * len(REFUSED)
    for each, said in zip(ended, REFUSED.values(), strict=True):
        assert said in each.said


def test_the_tests_of_what_is_added_pass(extended: Path) -> None:
    files = [path for blocks in additions().values() for path, _ in blocks if path.startswith("tests/")]
    named = "tests/config/test_configs.py::test_each_choice_is_named_by_the_section_that_reads_it[objective-Objective]"
    ended = call(
        extended, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files, named, "tests/test_architecture.py"
    )
    assert ended.returncode == 0, ended.stdout
