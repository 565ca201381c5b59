"""What stands on a terminal, and what in a log."""

import contextlib
import math
import re
import sys

import pytest

from evidence.display import terminal
from evidence.display.digits import decimals, form
from evidence.report.compare import mean_and_deviation

RESULT = {
    "run": "iwae-k5-two_layer-mnist-s0-a1b2c3",
    "folder": "/a/folder/whose/name/is/longer/than/one/line/of/an/old/terminal/outputs/iwae-k5-two_layer",
    "device": "cpu",
    "precision": "float32",
    "eval_samples": 500,
    "eval_images": 10000,
    "test/nll": 94.654,
    "test/nll_se": 0.251,
    "test/active_units": 29.0,
    "test/active_units_1": 25.0,
    "test/active_units_2": 4.0,
    "speed/train_seconds": 125.2,
    "speed/steps_per_second": 310.4,
}


def train(first_step: int = 0) -> None:
    with terminal.progress(1000, steps_per_pass=300, first_step=first_step) as show:
        for step in range(first_step + 10, 1001, 10):
            show(step, "iwae", -90 - step / 1000)


def test_a_log_gets_a_line_for_every_tenth(capsys: pytest.CaptureFixture[str]) -> None:
    train()
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert len(lines) == 10
    assert re.fullmatch(r"pass 1/4  step 100/1000  [\d.]+ steps/s  iwae -90.10  0:00:0\d left", lines[0])
    assert re.fullmatch(r"pass 4/4  step 1000/1000  [\d.]+ steps/s  iwae -91.00  in 0:00:0\d", lines[-1])


def test_a_log_gets_a_line_every_half_minute(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
    with terminal.counter("evaluating", 1000) as advance:
        for _ in range(20):
            now[0] += 5.0
            advance(1)
    assert capsys.readouterr().err.splitlines() == [
        "evaluating  6/1000  1:22:50 left",
        "evaluating  12/1000  1:22:20 left",
        "evaluating  18/1000  1:21:50 left",
    ]


def test_text_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    text = "model.hidden=[[200,200]] name=a:key:b [red] 12:30"
    terminal.note(text)
    terminal.table(["job", "time"], [[text, "0:01:00"]], numbers=["time"])
    out, err = capsys.readouterr()
    assert err == f"evidence: {text}\n"
    assert [text, "0:01:00"] in [re.split(r"\s{2,}", line.strip()) for line in out.splitlines()]


def test_speed_and_time_left_count_from_the_first_step(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
    with terminal.progress(1000, steps_per_pass=300, first_step=500) as show:
        now[0] = 20.0
        show(600, "elbo", -100.0)
    assert "5.0 steps/s  elbo -100.00  0:01:20 left" in capsys.readouterr().err


def test_a_terminal_gets_one_line_that_redraws_itself(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    train()
    err = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().err)
    pictures = err.split("\r")
    assert len(pictures) < 6  # a hundred updates in less than REDRAW seconds
    assert err.count("\n") == 1
    assert re.search(r"━ pass 4/4  step 1000/1000 .* iwae -91.00  in 0:00:0\d$", pictures[-1].rstrip())
    assert max(map(len, pictures)) <= 81


def test_the_table_holds_what_there_is_within_80_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    terminal.result_table(RESULT)
    out, err = capsys.readouterr()
    assert err == ""
    title, *rows, folder = (line.strip() for line in out.splitlines() if line.strip())
    assert title == RESULT["run"]
    assert [re.split(r"\s{2,}", row) for row in rows] == [
        ["test NLL", "94.65 ± 0.25", "nats per image; S = 500, 10,000 images"],
        ["active units", "29", "by layer from the data up: 25, 4"],
        ["training", "0:02:05", "310 steps/s on cpu, float32"],
    ]
    assert folder == RESULT["folder"]  # in one piece, to be copied
    assert max(len(line) for line in out.splitlines()[:-1]) <= 80


def test_the_table_of_a_semi_implicit_posterior_fits_80_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    estimates = {f"test/nll_{name}": 96.0 for name in ("mixture", "fresh", "gaussian")}
    terminal.result_table(RESULT | estimates | {"run": "uivi-[k1]", "eval_images": 100})
    rows = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == "uivi-[k1]"
    assert [row.split()[0] for row in rows[2:6]] == ["test", "mixture", "fresh", "gaussian"]


@pytest.mark.parametrize("width", [0, 1, 20, 40, 60, 80, 120])
def test_a_narrow_terminal_drops_the_last_columns_and_says_so(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    titles = ["job", "status", "test NLL", "time", "folder"]
    cells = ["seed=0", "KILLED", "87.65 ± 0.32", "1:01:00", RESULT["folder"]]
    terminal.table(titles, [cells], numbers=["test NLL", "time"])
    printed = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().out)
    *table, last = [line for line in printed.splitlines() if line.strip()]
    dropped = last.rpartition("too narrow to show ")[2].split(", ") if "too narrow" in last else []
    count = len(titles) - len(dropped)
    assert titles[count:] == dropped
    assert count == {0: 2, 1: 2, 20: 2, 40: 3, 60: 4, 80: 5, 120: 5}[width]
    assert all(title in table[0] for title in titles[:count])
    assert re.split(r"\s{2,}", table[2].strip())[: min(count, 4)] == cells[: min(count, 4)]
    assert max(map(len, [*table, *([] if dropped else [last])])) <= max(width, 20)
    terminal.result_table(RESULT)
    shown = capsys.readouterr().out
    assert RESULT["run"] in shown
    assert "94.65" in shown
    train()


@pytest.mark.parametrize("seconds", [float("inf"), float("nan"), 1e300])
def test_a_time_without_end_is_shown_as_a_long_one(seconds: float) -> None:
    assert terminal.clock(seconds) == "115740740 days, 17:46:40"


def test_runs_that_train_together_show_each_bound_by_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    shared = terminal.SharedProgress(3)
    with contextlib.ExitStack() as stack:
        shows = [stack.enter_context(shared.member(10, 5)) for _ in range(3)]
        for show, name, value in zip(shows, ("elbo", "iwae", "elbo"), (-98.7, -95.2, 1.2e-5), strict=True):
            show(10, name, value)
    assert "elbo -98.70 1.20e-05  iwae -95.20  in" in capsys.readouterr().err.splitlines()[-1]


def test_a_run_that_has_failed_is_shown_no_more(capsys: pytest.CaptureFixture[str]) -> None:
    shared = terminal.SharedProgress(2)
    with contextlib.suppress(ValueError), shared.member(10, 5) as show:
        show(5, "elbo", -98.7)
        raise ValueError
    with shared.member(10, 5) as show:
        show(10, "iwae", -95.2)
    last = capsys.readouterr().err.splitlines()[-1]
    assert "iwae -95.20" in last
    assert "elbo" not in last


@pytest.mark.parametrize(
    ("value", "least", "said"),
    [
        (0.00012, 3, "0.000120"),
        (1.2e-9, 3, "1.20e-09"),
        (0.05, 3, "0.0500"),
        (0.5, 3, "0.500"),
        (94.6, 2, "94.60"),
        (0.0, 3, "0.000"),
    ],
)
def test_a_small_number_keeps_three_digits(
    value: float, least: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert f"{value:{form(value, decimals([value], least))}}" == said
    assert decimals([value, 1000.0, math.nan], least) == decimals([value], least)
    assert mean_and_deviation(value, math.nan, decimals([value], least)) == said
    terminal.result_table(RESULT | {"test/error": value})
    if least == 3:
        assert re.search(rf"error +{re.escape(said)} ", capsys.readouterr().out)
