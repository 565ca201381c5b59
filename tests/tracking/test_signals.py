"""A signal during a call to MLflow: it waits for the call's end, and the store can be used after it."""

import random
import resource
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from evidence import tracking
from evidence.tracking import calls

HANDLED = [signal.SIGINT, signal.SIGUSR1, signal.SIGTERM]


def user_time() -> float:
    """Seconds, which ITIMER_VIRTUAL counts too."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_utime


def write(root: Path, record: str) -> None:
    store = tracking.Store(None, "interrupted", root)
    run = tracking.find_run(store, record) or tracking.create_run(store, record, {"record": record})
    run.log([("train/iwae", -90.0, run.last_steps().get("train/iwae", 0) + 1)])


def test_a_signal_in_the_middle_of_a_call_leaves_a_store_that_can_be_used(root: Path) -> None:
    def alarmed(seconds: float, record: str) -> None:
        try:
            signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
            write(root, record)
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)

    write(root, "with the imports")
    interrupted, durations = 0, []
    for number in range(5):
        begin = user_time()
        write(root, f"undisturbed {number}")
        durations.append(user_time() - begin)
    duration = min(durations)
    random_times = random.Random(0)
    before = signal.signal(signal.SIGVTALRM, signal.default_int_handler)  # raises KeyboardInterrupt
    try:
        for trial in range(50):
            try:
                alarmed(random_times.uniform(0.05, 0.95) * duration, str(trial))
            except KeyboardInterrupt:
                interrupted += 1
                write(root, str(trial))  # while the interrupted call's frames live, as in a run's last words
    finally:
        signal.signal(signal.SIGVTALRM, before)
    assert interrupted > 10


@pytest.fixture
def handlers() -> Iterator[dict[int, Any]]:
    before = {each: signal.signal(each, signal.default_int_handler) for each in HANDLED}
    yield dict.fromkeys(HANDLED, signal.default_int_handler)
    for each, handler in before.items():
        signal.signal(each, handler)


@pytest.mark.parametrize("count", range(2 * len(HANDLED)))
def test_a_signal_while_handlers_are_exchanged_leaves_each_as_it_was(
    count: int, handlers: dict[int, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange, exchanged, reached = signal.signal, [], []

    def interrupted(number: int, handler: Any) -> Any:
        if len(exchanged) == count:
            signal.raise_signal(signal.SIGINT)
        exchanged.append(number)
        return exchange(number, handler)

    with monkeypatch.context() as patch:
        patch.setattr(signal, "signal", interrupted)
        with pytest.raises(KeyboardInterrupt), calls.store_errors("sqlite:///mlflow.db"):
            reached.append(True)
    assert {each: signal.getsignal(each) for each in HANDLED} == handlers
    assert all(exchanged.count(each) == 2 for each in HANDLED)
    assert reached
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()
