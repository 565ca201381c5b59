"""A study takes whatever runs there are: one page has all studies, so none of them may end with an error."""

import itertools
from pathlib import Path
from typing import Any

import pytest
from frames import frame

from evidence.config import compose
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


def jobs(study: Study) -> list[dict[str, Any]]:
    """What made-up runs of the quick budget's jobs differ in, one for each cell."""
    found: dict[str, dict[str, Any]] = {}
    for number, words in enumerate(itertools.chain(study.sweeps("quick"))):
        arguments, _ = compose.read_arguments(["-m", *words])
        for job in compose.request(ROOT / "conf", arguments).jobs:
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
    made = jobs(study)
    for number, run in enumerate(made[:2]):
        others = made[:number] + made[number + 1 :]
        for runs in ([run], others, [*others, {**run, "stages": "5"}]):
            if runs:
                found = study.find(frame(*runs), tmp_path)
                assert all(claim.evidence or claim.holds is None for claim in found.claims)
