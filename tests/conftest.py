"""The ground every test stands on: no denormals, one thread, a fixed seed, no server of the user's."""

import signal
from collections.abc import Iterator

import pytest
import torch

torch.set_flush_denormal(True)  # worker threads inherit it only if it comes before the first tensor operation
signal.signal(
    signal.SIGINT, signal.default_int_handler
)  # started in the background, a process ignores Ctrl-C
torch.set_num_threads(1)  # tests are small: one thread is faster than two, and sums in one order


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
