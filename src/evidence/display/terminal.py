"""What a run shows while it works, and the table it ends with.

Progress goes to stderr: on a terminal one line that redraws itself, elsewhere a plain line now and then, so
that a log stays short. The table goes to stdout.
"""

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any, Protocol

import rich.progress
from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

REDRAW = 0.2  # seconds between two pictures on a terminal
LINE = 30.0  # seconds between two lines elsewhere, unless a tenth of the work is done sooner


def note(text: str) -> None:
    """One line beside the progress, such as where a run goes on."""
    Console(stderr=True).print(f"evidence: {text}", soft_wrap=True, markup=False, highlight=False)


class _Display(Protocol):
    def show(self, completed: int, text: str) -> None: ...


class _Bar:
    """A line on a terminal; drawn by the caller, not by a thread beside the training."""

    def __init__(self, bar: rich.progress.Progress, total: int, completed: int) -> None:
        self._bar, self._total, self._drawn = bar, total, 0.0
        self._task = bar.add_task("", total=total, completed=completed)

    def show(self, completed: int, text: str) -> None:
        now = time.monotonic()
        if now - self._drawn >= REDRAW or completed >= self._total:
            self._drawn = now
            self._bar.update(self._task, completed=completed, description=escape(text), refresh=True)


class _Lines:
    """Plain lines, one for each tenth of the work or every half minute."""

    def __init__(self, console: Console, total: int, completed: int) -> None:
        self._console, self._total = console, total
        self._printed, self._when = completed, time.monotonic()

    def show(self, completed: int, text: str) -> None:
        now = time.monotonic()
        is_tenth = 10 * (completed - self._printed) >= self._total
        if is_tenth or now - self._when >= LINE or completed >= self._total:
            self._printed, self._when = completed, now
            self._console.print(text, soft_wrap=True, markup=False, highlight=False)


@contextlib.contextmanager
def _display(total: int, completed: int) -> Iterator[_Display]:
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines(console, total, completed)
        return
    columns = (
        rich.progress.BarColumn(bar_width=None),
        rich.progress.TextColumn("{task.description}", table_column=Column(no_wrap=True)),
    )
    with rich.progress.Progress(*columns, console=console, auto_refresh=False, expand=True) as bar:
        yield _Bar(bar, total, completed)


class _Pace:
    """Speed since the start, and the time left at that speed."""

    def __init__(self, total: int, first: int) -> None:
        self._total, self._first, self._begin = total, first, time.monotonic()

    def rate(self, completed: int) -> float:
        """Units of work a second."""
        return (completed - self._first) / max(time.monotonic() - self._begin, 1e-9)

    def left(self, completed: int) -> str:
        """In words; at the end the time taken."""
        if completed >= self._total:
            return f"in {timedelta(seconds=round(time.monotonic() - self._begin))}"
        seconds = (self._total - completed) / max(self.rate(completed), 1e-9)
        return f"{timedelta(seconds=round(seconds))} left"


class Progress:
    """Training: pass, step, steps a second, the current bound, the time left."""

    def __init__(self, display: _Display, total_steps: int, steps_per_pass: int, first_step: int) -> None:
        self._display, self._pace = display, _Pace(total_steps, first_step)
        self._total, self._steps_per_pass = total_steps, steps_per_pass

    def update(self, step: int, name: str, value: float) -> None:
        """After `step` steps the bound `name` is `value`, in nats an image."""
        current, passes = (math.ceil(steps / self._steps_per_pass) for steps in (step, self._total))
        rate = self._pace.rate(step)
        self._display.show(
            step,
            f"pass {current}/{passes}  step {step}/{self._total}  {rate:.{0 if rate >= 10 else 1}f} steps/s"
            f"  {name} {value:.2f}  {self._pace.left(step)}",
        )


@contextlib.contextmanager
def progress(total_steps: int, steps_per_pass: int, first_step: int = 0) -> Iterator[Progress]:
    """Shown while the block trains from `first_step`, the number of steps already done."""
    with _display(total_steps, first_step) as display:
        yield Progress(display, total_steps, steps_per_pass, first_step)


@contextlib.contextmanager
def counter(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """Shown while the block works through `total` pieces; call what it gives with how many more are done."""
    pace, done = _Pace(total, 0), 0
    with _display(total, 0) as display:

        def advance(count: int) -> None:
            nonlocal done
            done += count
            display.show(done, f"{title}  {done}/{total}  {pace.left(done)}")

        yield advance


def result_table(result: Mapping[str, Any]) -> None:
    """Print a run's numbers, found under their metric names; those that are missing are left out.

    Besides the metrics `result` holds `run`, `folder`, `device`, `eval_samples` (S) and `eval_images`.
    """
    table = Table(title=escape(result["run"]), title_justify="left", box=SIMPLE, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, justify="right")
    table.add_column(style="dim")

    def row(metric: str, label: str, words: str, digits: int = 2) -> None:
        if metric in result:
            error = f" ± {result[f'{metric}_se']:.{digits}f}" if f"{metric}_se" in result else ""
            table.add_row(label, f"{result[metric]:,.{digits}f}{error}", words)

    samples, images = result["eval_samples"], result["eval_images"]
    row("test/nll", "test NLL", f"nats per image; S = {samples:,}, {images:,} images")
    row("test/nll_mixture", "  mixture", "with the eps that made z: what test NLL means")
    row("test/nll_fresh", "  fresh", "without it, as in the UIVI paper: too low")
    row("test/nll_gaussian", "  gaussian", "importance sampling from a fitted Gaussian")
    row("test/elbo", "ELBO", "nats per image")
    row("test/kl", "KL", "of q(z | x) from the prior")
    row("test/effective_sample_size", "ESS", f"effective samples of {samples:,}", digits=1)
    row("test/active_units", "active units", _layers(result), digits=0)
    for part, label in ("train", "training"), ("eval", "evaluation"):
        if f"speed/{part}_seconds" in result:
            seconds = round(result[f"speed/{part}_seconds"])
            table.add_row(label, str(timedelta(seconds=seconds)), _where(result, part))
    console = Console()
    console.print(table)
    console.print(f"  {result['folder']}", soft_wrap=True, markup=False, highlight=False)


def _layers(result: Mapping[str, Any]) -> str:
    counts = [result[key] for key in sorted(result) if key.startswith("test/active_units_")]
    return (
        f"by layer from the data up: {', '.join(f'{count:.0f}' for count in counts)}"
        if len(counts) > 1
        else ""
    )


def _where(result: Mapping[str, Any], part: str) -> str:
    if part == "train" and "speed/steps_per_second" in result:
        return f"{result['speed/steps_per_second']:,.0f} steps/s on {result['device']}"
    return f"on {result['device']}"
