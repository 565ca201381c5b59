"""Shows a run's progress, and prints tables on stdout.

Progress goes to stderr. In a terminal it is one line that is redrawn. Elsewhere it is a plain line now and then, so
that a log stays short.
"""

import contextlib
import functools
import itertools
import math
import re
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar
from rich.table import Column, Table
from rich.text import Text

from evidence.display.digits import own_form

REDRAW = 0.2  # seconds between two pictures on a terminal
LINE = 30.0  # seconds between two lines elsewhere, unless a tenth of the work is done sooner
WIDTH = 200  # characters in a line of a table that goes to a file
LEAST_WIDTH = 20  # and of one on a terminal, even if that says less
# The metrics of every run. Others are of eval.metrics.
OWN = re.compile(r"nll(_se|_mixture|_fresh|_gaussian)?|elbo|kl|effective_sample_size|active_units(_\d+)?")
NARROWEST = 14  # characters: no cell is broken into shorter lines
GAP = 3  # characters between two cells
FEWEST = 2  # columns that are never dropped: a job and its status, a metric and its value
LONGEST = 1e13  # seconds that can be shown
Show = Callable[[int, str, float], None]  # of a step, and of a bound its name and its value in nats an image


def line(text: str, *, is_error: bool = False) -> None:
    """Print one line unchanged and unbroken, on stdout or on stderr."""
    print(text, file=sys.stderr if is_error else sys.stdout, flush=True)


def note(text: str) -> None:
    """Print one line beside the progress, such as where a run continues."""
    line(f"evidence: {text}", is_error=True)


def table(titles: Sequence[str], rows: Sequence[Sequence[str]], numbers: Collection[str]) -> None:
    """Print rows of cells under their titles; the columns `numbers` are aligned to the right.

    In a narrow terminal the last columns are dropped, and a line says which.
    """
    cells = [[Text(cell) for cell in row] for row in rows]
    dropped = titles[_print(titles, cells, numbers, has_titles=True) :]
    if dropped:
        line(f"  this terminal is too narrow to show {', '.join(dropped)}")


def _print(
    titles: Sequence[str], rows: Sequence[Sequence[Text]], numbers: Collection[str], *, has_titles: bool
) -> int:
    """Print the first columns, as many as there is space for and at least FEWEST. Return their number."""
    console = Console()
    console = Console(width=max(console.width, LEAST_WIDTH) if console.is_terminal else WIDTH)
    shown = [*rows, *([[Text(title) for title in titles]] if has_titles else [])]
    widths = (min(max(cell.cell_len for cell in column), NARROWEST) for column in zip(*shown, strict=True))
    ends = itertools.accumulate((width + GAP for width in widths), initial=1)
    count = max(FEWEST, sum(end <= console.width for end in ends) - 1)
    printed = Table(box=SIMPLE, show_header=has_titles)
    for title in titles[:count]:
        printed.add_column(title, overflow="fold", justify="right" if title in numbers else "left")
    for row in rows:
        printed.add_row(*row[:count])
    console.print(printed)
    return count


def clock(seconds: float) -> str:
    """The time in hours, minutes and seconds. What is no number is shown as LONGEST."""
    return str(timedelta(seconds=round(min(LONGEST, seconds))))


class _Display:
    """Shows how much of `total` pieces of work is done. `first` pieces were done before it began."""

    def __init__(self, bar: Bar | None, total: int, first: int) -> None:
        self._bar, self._total, self._first, self._shown = bar, total, first, first
        self._begin = self._when = time.monotonic()
        if bar is not None:
            self._task = bar.add_task("", total=total, completed=first)
            self._when -= REDRAW

    def extend(self, total: int, first: int) -> None:
        """The work is `total` pieces more, of which `first` were done before it began."""
        self._total, self._first, self._shown = self._total + total, self._first + first, self._shown + first

    def rate(self, completed: int) -> float:
        """Pieces a second since it began."""
        return (completed - self._first) / max(time.monotonic() - self._begin, 1e-9)

    def show(self, completed: int, text: str) -> None:
        """Show the text and the time left, or at the end the time taken. A call soon after another shows nothing."""
        now, is_over = time.monotonic(), completed >= self._total
        is_tenth = self._bar is None and 10 * (completed - self._shown) >= self._total
        if not (is_over or is_tenth or now - self._when >= (LINE if self._bar is None else REDRAW)):
            return
        self._shown, self._when = completed, now
        left = (self._total - completed) / max(self.rate(completed), 1e-9)
        text = f"{text}  in {clock(now - self._begin)}" if is_over else f"{text}  {clock(left)} left"
        if self._bar is None:
            line(text, is_error=True)
        else:
            self._bar.update(self._task, completed=completed, description=text, refresh=True)


@contextlib.contextmanager
def _display(total: int, first: int) -> Iterator[_Display]:
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Display(None, total, first)
        return
    text = TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True))
    # The caller draws the bar, since a thread would slow down the training.
    with Bar(BarColumn(bar_width=None), text, console=console, auto_refresh=False, expand=True) as bar:
        yield _Display(bar, total, first)


@contextlib.contextmanager
def progress(total_steps: int, steps_per_pass: int, first_step: int = 0) -> Iterator[Show]:
    """Yield what shows pass, step, steps a second, the bound and the time left. `first_step` steps are done."""
    with _display(total_steps, first_step) as display:

        def show(step: int, name: str, value: float) -> None:
            current, passes = (math.ceil(steps / steps_per_pass) for steps in (step, total_steps))
            rate = display.rate(step)
            speed = f"{rate:.{0 if rate >= 10 else 1}f} steps/s"
            bound = f"{value:{own_form(value, 2)}}"
            display.show(step, f"pass {current}/{passes}  step {step}/{total_steps}  {speed}  {name} {bound}")

        yield show


class SharedProgress:
    """One line for several runs that train together: passes, steps, steps a second, each run's bound, time left."""

    def __init__(self, count: int) -> None:
        self._count, self._ended = count, 0
        self._steps: dict[int, int] = {}
        self._per_pass: dict[int, int] = {}
        self._bounds: dict[int, tuple[str, str]] = {}  # the name and the value
        self._display = _Display(None, 0, 0)

    @contextlib.contextmanager
    def member(self, total_steps: int, steps_per_pass: int, first_step: int = 0) -> Iterator[Show]:
        """As `progress`, of one of the runs."""
        number = len(self._steps)
        self._steps[number], self._per_pass[number] = first_step, steps_per_pass
        self._display.extend(total_steps, first_step)
        try:
            yield functools.partial(self.update, number)
            self._ended += 1
        finally:
            self._bounds.pop(number, None)

    def update(self, number: int, step: int, name: str, value: float) -> None:
        """After `step` steps of a run its bound `name` is `value`, in nats an image."""
        self._steps[number], self._bounds[number] = (
            step,
            (name, f"{value:{own_form(value, 2)}}"),
        )
        done = sum(self._steps.values())
        rate = self._display.rate(done)
        each = rate / max(1, len(self._bounds))
        passes = [math.ceil(self._steps[run] / self._per_pass[run]) for run in self._bounds]
        first, last = min(passes), max(passes)
        place = f"pass {first}" if first == last else f"passes {first} to {last}"
        bounds = "  ".join(
            f"{name} {' '.join(value for of, value in self._bounds.values() if of == name)}"
            for name in dict.fromkeys(name for name, _ in self._bounds.values())
        )
        self._display.show(
            done,
            f"{self._ended} of {self._count} runs trained  {place}  step {done:,} in all  {rate:.0f} steps/s,"
            f" {each:.0f} a run  {bounds}",
        )


@contextlib.contextmanager
def counter(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """Yield a function to call with how many more of `total` pieces are done."""
    done = 0
    with _display(total, 0) as display:

        def advance(count: int) -> None:
            nonlocal done
            done += count
            display.show(done, f"{title}  {done}/{total}")

        yield advance


def result_table(result: Mapping[str, Any]) -> None:
    """Print a run's metrics. Missing metrics are left out.

    Besides the metrics `result` has `run`, `folder`, `device`, `precision`, `eval_samples` (S) and `eval_images`.
    """
    rows: list[list[Text]] = []

    def add(label: str, value: str, words: str) -> None:
        rows.append([Text(label), Text(value), Text(words, style="dim")])

    def row(metric: str, label: str, words: str, digits: int = 2) -> None:
        if metric in result:
            shape = f",{own_form(result[metric], digits)}"
            error = f" ± {result[f'{metric}_se']:{shape}}" if f"{metric}_se" in result else ""
            add(label, f"{result[metric]:{shape}}{error}", words)

    samples, images = result["eval_samples"], result["eval_images"]
    layers = [f"{result[key]:.0f}" for key in sorted(result) if key.startswith("test/active_units_")]
    row("test/nll", "test NLL", f"nats per image; S = {samples:,}, {images:,} images")
    row("test/nll_mixture", "  mixture", "with the eps that made z: what test NLL means")
    row("test/nll_fresh", "  fresh", "without it, as in the UIVI paper: too low")
    row("test/nll_gaussian", "  gaussian", "importance sampling from a fitted Gaussian")
    row("test/elbo", "ELBO", "nats per image")
    row("test/kl", "KL", "of q(z | x) from the prior")
    row("test/effective_sample_size", "ESS", f"effective samples of {samples:,}", digits=1)
    by_layer = f"by layer from the data up: {', '.join(layers)}" if len(layers) > 1 else ""
    row("test/active_units", "active units", by_layer, digits=0)
    for key in sorted(result):
        group, _, name = key.partition("/")
        if group.startswith("test_") and name == "nll":
            row(key, f"{group.removeprefix('test_')} NLL", "nats per image, on the test images of eval.also")
        elif group == "test" and not OWN.fullmatch(name):
            row(key, name, "mean over images, of eval.metrics", digits=3)
    speed = result.get("speed/steps_per_second")
    where = f"on {result['device']}, {result['precision']}"
    in_training = where if speed is None else f"{speed:,.0f} steps/s {where}"
    for part, label, words in ("train", "training", in_training), ("eval", "evaluation", where):
        if f"speed/{part}_seconds" in result:
            add(label, clock(result[f"speed/{part}_seconds"]), words)
    line(result["run"])
    _print(("metric", "value", "words"), rows, ["value"], has_titles=False)
    line(f"  {result['folder']}")
