"""A few of the interruptions and one of the sweeps that `make torture` does by the dozen."""

from pathlib import Path

import pytest
import torture


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, fresh_store: Path) -> torture.Torture:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in torture.ENVIRONMENT.items():
            patch.setenv(name, value)
        return torture.Torture(tmp_path_factory.mktemp("torture"), fresh_store)


@pytest.mark.parametrize(
    ("case", "variant"),
    [("vae", "fresh"), ("iwae, two layers", "other"), ("critic", ""), ("uivi", "")],
)
def test_kill_9_at_any_moment_changes_nothing(bench: torture.Torture, case: str, variant: str) -> None:
    outcome = bench.interrupt(case, variant, "test")
    assert outcome.wrong == []
    assert outcome.rows[1:] == (0, 0, 0)
    assert outcome.rows.expected > 0


def test_jobs_that_train_together_go_on_each_from_its_own_checkpoint(bench: torture.Torture) -> None:
    outcome = bench.interrupt_packed("test")
    assert outcome.wrong == []
    assert outcome.rows[1:] == (0, 0, 0)
    assert outcome.rows.expected > 0


def test_a_parallel_sweep_in_a_fresh_folder_finishes_every_job(tmp_path: Path) -> None:
    assert torture.sweep(tmp_path, seeds=2, n_jobs=2) == (4, 4, "")
