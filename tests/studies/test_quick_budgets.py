"""Quick budgets are as quick as they say, and a study takes whatever runs of its own there are.

One page has all studies, so none of them may end with an error.
"""

import functools
from pathlib import Path
from typing import Any

import pytest
from frames import frame
from made_up import request

from evidence.config.compose import Job
from evidence.display import style
from evidence.records import identity
from evidence.report.study import Study, discovered
from evidence.tracking import flattened

ROOT = Path(__file__).resolve().parents[2]
STUDIES = [study for study in discovered(ROOT / "experiments") if [*study.sweeps("quick")]]
NUMBERS = {
    "test/nll": 90.0,
    "test/nll_se": 0.2,
    "test/nll_group": 92.0,
    "test/nll_fresh": 89.0,
    "test/nll_gaussian": 91.0,
    "test/kl": 20.0,
    "hmc/acceptance": 0.9,
}


@functools.cache
def composed(*words: str) -> list[Job]:
    """The jobs of a sweep. Composing them takes most of the time of these tests."""
    return request(*words).jobs


def made_of(study: Study) -> list[dict[str, Any]]:
    """What made-up runs of the quick budget's jobs differ in, one for each cell."""
    found: dict[str, dict[str, Any]] = {}
    for number, words in enumerate(study.sweeps("quick")):
        for job in composed(*words):
            config = job.settings.model_dump(by_alias=True)
            settings = {name: str(value) for name, value in flattened(config).items()}
            few = identity.params(config, job.settings.eval.samples, 10_000)
            few["stages"] = str(few["stages"])
            made = settings | few | NUMBERS | {"run": f"run {number} {' '.join(job.overrides)}"}
            found.setdefault(
                repr([made[name] for name in ("objective", "k", "model", "data", "stages", "variant")]), made
            )
    return [*found.values()]


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.target)
def test_it_takes_any_of_its_runs(study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One alone, all but one, and one of another length among all."""
    monkeypatch.setattr(style, "save", lambda figure, path: None)
    made = made_of(study)
    for number, run in enumerate(made[:2]):
        others = made[:number] + made[number + 1 :]
        for runs in ([run], others, [*others, {**run, "stages": "5"}]):
            if runs:
                found = study.find(frame(*runs), tmp_path)
                assert all(claim.evidence or claim.holds is None for claim in found.claims)


@pytest.mark.parametrize("target", ["table1", "active-units", "table3", "critic", "tighter", "estimators"])
def test_a_quick_budget_is_13_passes_of_one_seed(
    target: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EVIDENCE_DATA", str(tmp_path))
    (study,) = (each for each in STUDIES if each.target == target)
    jobs = [job.settings for words in study.sweeps("quick") for job in composed(*words)]
    assert max(job.trainer.stages for job in jobs) == 3
    assert {job.seed for job in jobs} == {0}
