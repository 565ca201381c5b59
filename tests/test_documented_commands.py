"""Every command in the documents is one that can be typed, and every committed table is what its commands train."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from documents import DOCUMENTS
from runs import CONF

from evidence.config import compose
from evidence.config.settings import Settings
from evidence.report import compare
from evidence.report.study import discovered
from experiments.iwae_table1.paper import PASSES

ROOT = CONF.parent
TRAINED = [
    study
    for study in discovered(ROOT / "experiments")
    if study.name in ("iwae_table1", "iwae_table3", "critic", "uivi_vae")
]
# A place to fill in, a file that a reader writes first, another command, or a launcher that is not installed here.
LEFT_OUT = (
    "<",
    "...",
    "objective=beta",
    "doubly",
    "model=flow",
    "data=arrays",
    "report --experiment",
    "init_from=",
    "run.py`",
    "launcher=ray",
    "launcher=submitit_slurm",
    "ray.",
    "uri=",
)


def commands(text: str) -> Iterator[list[str]]:
    """The arguments of each `python run.py` in a document, without its comment."""
    for line in re.findall(r"python run\.py ([^\n]*)", text.replace("\\\n", " ")):
        line = line.partition("`")[0].partition(" #")[0]
        if not any(word in line for word in LEFT_OUT):
            yield shlex.split(line)


def jobs(words: list[str]) -> list[Settings]:
    arguments, _ = compose.read_arguments(words)
    return [job.settings for job in compose.request(CONF, arguments).jobs]


def described(settings: Settings) -> tuple[str, str, int, int]:
    """A run's name without its hash, its length, S, and the number of images."""
    semi = settings.objective.name in ("uivi", "sivi")
    parts = [settings.objective.name, f"k{settings.k}", settings.model.name, settings.data.name]
    trainer, scored = settings.trainer, settings.eval
    return (
        "-".join([*parts, f"s{settings.seed}"]),
        compare.length(trainer.stages if trainer.stages else f"{trainer.steps} steps", PASSES)[1],
        scored.semi_implicit.samples if semi else scored.samples,
        scored.images or 10_000,
    )


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_documented_command_can_be_typed(path: Path) -> None:
    for words in commands(path.read_text()):
        if not {"--help"} & set(words):
            assert jobs(words), words


@pytest.mark.parametrize("study", TRAINED, ids=lambda study: study.name)
def test_a_committed_table_is_what_the_commands_beside_it_train(study) -> None:
    folder = ROOT / "experiments" / study.name
    text = (folder / "README.md").read_text()
    typed = list(commands(text.partition("```")[2]))
    if re.search(rf"`make {study.target}` and `make report ARGS=--keep`", text):
        typed += list(study.sweeps("quick"))
    trained = {described(settings) for words in typed for settings in jobs(words)}
    table = pd.read_csv(folder / "results.csv")
    shown = {
        (name.strip().rpartition("-")[0], row["budget"], row["eval_samples"], row["eval_images"])
        for _, row in table[table["eval_samples"].notna()].iterrows()
        for name in row["runs"].split(";")
    }
    assert shown
    assert shown <= trained
