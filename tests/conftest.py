"""The ground every test stands on: no denormals, one thread, a fixed seed, no server of the user's."""

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

torch.set_flush_denormal(True)  # worker threads inherit it only if it comes before the first tensor operation
signal.signal(
    signal.SIGINT, signal.default_int_handler
)  # started in the background, a process ignores Ctrl-C
torch.set_num_threads(1)  # tests are small: one thread is faster than two, and sums in one order
os.environ.setdefault("OMP_NUM_THREADS", "1")  # the same for the processes that tests start

# What takes a minute or so on a core comes first: xdist gives out files in this order, and would else begin with
# those of many tests, and leave cores idle at the end while one has a long file of few.
LONG = {
    "test_compiled.py",
    "test_extend.py",
    "test_launchers.py",
    "test_mlflow_page.py",
    "test_packed.py",
    "test_project.py",
    "test_quick_budgets.py",
    "test_recorded.py",
    "test_stack.py",
    "test_torture.py",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in LONG)


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _own_tracking(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tracking server that the user has set is not for tests."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture
def float64() -> Iterator[None]:
    """New tensors are float64 during the test, so that its errors are statistical and not of rounding."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.fixture(scope="session")
def fresh_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow store: making one takes seconds, copying it none."""
    from evidence import tracking

    folder = tmp_path_factory.mktemp("store")
    tracking.prepare(tracking.Store(None, "first", folder))
    return folder / "mlflow.db"


@pytest.fixture
def root(tmp_path: Path, fresh_store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which a test's runs and their MLflow store lie."""
    from evidence import project

    shutil.copy(fresh_store, tmp_path)
    monkeypatch.setattr(project, "_root", tmp_path)
    return tmp_path


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures take most of a small run's time; for tests that are not about them."""
    from evidence.runs import figures

    monkeypatch.setattr(figures, "draw", lambda *_: None)


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """What a small run ends with when nothing happens to it."""
    import runs

    from evidence import project

    root = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(project, "_root", root)
        assert runs.start("tracking=none") == 0
    return runs.numbers(runs.only_directory(root))
