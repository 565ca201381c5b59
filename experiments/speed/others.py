"""What is measured beside training steps: UIVI and its chain, evaluation, start-up."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from evidence.evaluation import sizes
from experiments.speed import floor
from experiments.speed.records import Row
from experiments.speed.setting import FIRST_STEP, ROOT, UIVI_BATCH
from experiments.speed.steps import RATE
from experiments.speed.turns import ratio, spread, take_turns, workers

REPETITIONS = 3  # of a start
PAPER, PAPER_PAIRS = "L_5000 over 10,000 images, extrapolated", 5000 * 10_000


def uivi(images: Path, device: str) -> list[Row]:
    """The whole step, the step without its chain, and what the chain costs over the rest."""
    with workers(images, device, {"whole": ("uivi",), "rest": ("uivi", "rest")}) as team:
        replies = take_turns(team, "1")
    seconds = {name: [reply.seconds for reply in replies[name]] for name in replies}
    chain = [(whole - rest) / rest for whole, rest in zip(*seconds.values(), strict=True)]
    case = f"batch {UIVI_BATCH}"
    rows = [
        Row("UIVI step", case, name, device, "ms", *spread([1e3 * s for s in seconds[name]]), len(chain))
        for name in seconds
    ]
    return [*rows, Row("UIVI step", case, "chain over rest", device, "times", *spread(chain), len(chain))]


def evaluation(images: Path, device: str) -> list[Row]:
    """Microseconds for one (image, sample) pair, and what L_5000 over 10,000 images would take at that pace."""
    pairs_at_a_time = sizes(torch.device(device)).rows
    commands = {"compiled": ("scoring", "compiled"), "as it stands": ("scoring",), RATE: ("products",)}
    with workers(images, device, commands) as team:
        replies = take_turns(team, str(pairs_at_a_time))
    share = floor.decoder(1) / floor.product(*floor.SHAPE)  # of one product; the encoder runs once an image
    products = [share * reply.seconds for reply in replies.pop(RATE)]
    rows = []
    for case, unit, factor in (("one image and sample", "µs", 1e6), (PAPER, "s", PAPER_PAIRS)):
        for name, answers in replies.items():
            seconds = [reply.seconds for reply in answers]
            more = {"over_floor": ratio(seconds, products), "peak_mib": answers[-1].peak_mib}
            times = spread([factor * second for second in seconds])
            rows.append(Row("Evaluation", case, name, device, unit, *times, len(seconds), **more))
    return rows


def start_up(device: str) -> list[Row]:
    """Seconds for --help, and from the command to the end of the first training step, once files are cached."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
        to_first_step = ["-m", "experiments.speed.workers.first_step", "data=digits", f"device={device}"]

        def new_run(number: int) -> list[str]:
            return [*to_first_step, f"seed={number}", f"paths.outputs={folder}"]

        rows = []
        for name, words, command in (
            ("run.py --help", "", lambda _: ["run.py", "--help"]),
            ("run.py data=digits, to its first step", FIRST_STEP, new_run),
        ):
            seconds = [_seconds_to(words, command(n), environment) for n in range(1 + REPETITIONS)]
            # The first one fills the disk's cache and makes MLflow's store.
            rows.append(Row("Start-up", "", name, device, "s", *spread(seconds[1:]), REPETITIONS))
        return rows


def _seconds_to(words: str, arguments: list[str], environment: dict[str, str]) -> float:
    """From a Python command's start to the last line it prints that has these words. Raises RuntimeError."""
    began = time.perf_counter()
    seconds, lines = None, []
    with subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if words in line:
                seconds = time.perf_counter() - began
    if seconds is None:
        raise RuntimeError(f"{' '.join(arguments)} never said {words!r}: {''.join(lines)}")
    return seconds
