"""Every file in conf/: the published sweeps compose, build and take a step, and carry the papers' settings."""

import ast
from pathlib import Path
from typing import get_args

import pytest
import torch

from evidence import data, training
from evidence.config import compose
from evidence.config.schema.base import Built, subclasses
from evidence.config.schema.data import Data, GreyImages
from evidence.config.schema.models import Model
from evidence.config.schema.objectives import Objective
from evidence.config.settings import Settings
from evidence.errors import UserError
from evidence.runs import build

CONF = Path(__file__).resolve().parents[2] / "conf"
EXPERIMENTS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))


def jobs(*overrides: str) -> list[Settings]:
    arguments, _ = compose.read_arguments([*overrides])
    return [job.settings for job in compose.request(CONF, arguments).jobs]


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_job_of_an_experiment_builds_and_takes_a_step(experiment: str, tmp_path: Path) -> None:
    planned = jobs(f"experiment={experiment}", "data=digits")
    assert planned
    for settings in planned:
        parts = build.build(settings, torch.device("cpu"), tmp_path)
        before = [parameter.detach().clone() for parameter in parts.model.parameters()]
        stream = data.batches(parts.dataset, 20, 0, 0, torch.device("cpu"))
        reports = training.train(
            parts.model, parts.objective, parts.optimizer, stream, parts.schedule, "sum", log_every=1
        )
        assert next(reports).step == 1
        changed = [not torch.equal(a, b) for a, b in zip(before, parts.model.parameters(), strict=True)]
        assert all(changed)


def test_table_1_is_the_papers_grid_and_protocol() -> None:
    planned = jobs("experiment=iwae_table1")
    cells = {(job.objective.name, job.k, job.model.name) for job in planned}
    assert cells == {
        (o, k, m) for o in ("vae", "iwae") for k in (1, 5, 50) for m in ("one_layer", "two_layer")
    }
    for job in planned:
        assert (job.trainer.stages, job.trainer.batch_size, job.trainer.learning_rate) == (8, 20, 1e-3)
        assert (job.data.name, job.eval.samples, job.eval.images) == ("mnist", 5000, None)
        assert job.name == "iwae_table1"
    one, two = (
        next(job.model for job in planned if job.model.name == name) for name in ("one_layer", "two_layer")
    )
    assert (one.latent, one.hidden) == ([50], [[200, 200]])  # type: ignore[union-attr]
    assert (two.latent, two.hidden) == ([100, 50], [[200, 200], [100, 100]])  # type: ignore[union-attr]


def test_uivi_has_the_authors_protocol() -> None:
    for job in jobs("experiment=uivi_vae"):
        trainer = job.trainer
        assert (trainer.steps, trainer.batch_size, trainer.scale_rate) == (400_000, 100, 0.2)
        assert (trainer.decay, trainer.decay_every) == (0.9, 15_000)
        assert (job.eval.semi_implicit.samples, job.eval.semi_implicit.noises) == (1000, 10_000)
        assert job.model.name == "semi_implicit"
        assert job.data.name in ("mnist_fixed", "fashion_mnist")


def test_what_is_typed_wins_over_the_experiment() -> None:
    planned = jobs("experiment=iwae_table1", "k=2", "trainer=quick", "name=mine")
    assert {(job.k, job.trainer.stages, job.name) for job in planned} == {(2, 3, "mine")}
    assert len(planned) == 4


@pytest.mark.parametrize(
    ("objective", "model", "trainer", "k"),
    [
        ("vae", "one_layer", "quick", 1),
        ("iwae", "one_layer", "quick", 50),
        ("critic", "one_layer", "quick", 1),
        *(
            (name, "one_layer", "quick", 50)
            for name in ("dreg", "stl", "rws", "rws_dreg", "miwae", "piwae", "ciwae", "vr_iwae", "tvo")
        ),
        ("uivi", "semi_implicit", "uivi_quick", 1),
        ("sivi", "semi_implicit", "uivi_quick", 1),
    ],
)
def test_an_objective_brings_what_suits_it(objective: str, model: str, trainer: str, k: int) -> None:
    (job,) = jobs(f"objective={objective}")
    assert (job.model.name, job.trainer.name, job.k) == (model, trainer, k)
    (job,) = jobs(f"objective={objective}", "trainer=smoke", "k=4")
    assert (job.model.name, job.trainer.name, job.k) == (model, "smoke", 4)


def refuse(**options: object) -> None:
    raise UserError("images of another size")


def test_what_a_class_complains_of_reaches_the_user_in_its_own_words(tmp_path: Path) -> None:
    own = Data.model_validate({"_target_": "test_configs.refuse", "name": "own", "pixels": 64})
    settings = jobs("data=digits")[0].model_copy(update={"data": own})
    with pytest.raises(UserError, match=r"^images of another size$"):
        build.build(settings, torch.device("cpu"), tmp_path)


@pytest.mark.parametrize(("group", "kind"), [("objective", Objective), ("model", Model)])
def test_each_choice_is_named_by_the_section_that_reads_it(group: str, kind: type[Built]) -> None:
    named = {choice: cls for cls in subclasses(kind) for choice in cls.choices}  # type: ignore[attr-defined]
    assert sorted(named) == sorted(path.stem for path in (CONF / group).glob("*.yaml"))
    for choice, cls in named.items():
        beside = ["objective=uivi"] if choice == "semi_implicit" else []
        (settings,) = jobs(*beside, f"{group}={choice}")
        assert type(getattr(settings, group)) is cls


def test_only_sections_of_the_users_own_take_any_key() -> None:
    for cls in subclasses(Built):
        is_ours = cls.prefix or get_args(cls.model_fields["built_by"].annotation)
        assert (cls.model_config["extra"] == "forbid") == bool(is_ours) or cls.__name__.startswith("_"), cls


def test_no_check_names_a_section_of_one_target() -> None:
    kinds = {Built, *Built.__subclasses__()}
    names = {cls.__name__ for cls in subclasses(Built) if cls not in kinds}
    for path in (CONF.parent / "src" / "evidence" / "config").glob("*.py"):
        nodes = list(ast.walk(ast.parse(path.read_text())))
        said = {node.id for node in nodes if isinstance(node, ast.Name)}
        said |= {node.name for node in nodes if isinstance(node, ast.alias)}
        assert not said & names, path.name


def test_a_data_set_of_this_package_without_a_section_is_one_of_grey_images() -> None:
    (settings,) = jobs("data=mnist", "data._target_=evidence.data.kmnist.kmnist", "data.name=kmnist")
    assert type(settings.data) is GreyImages
    assert settings.data.is_pinned
    (settings,) = jobs("data=mnist", "data._target_=mine.kmnist")
    assert not settings.data.is_pinned
