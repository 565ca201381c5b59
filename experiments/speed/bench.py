"""`make bench`: how long everything takes here, beside its peers and over its floor.

Writes results-<machine>.csv, .md and .png and growth-<machine>.csv and .png next to this file. README.md says how
to read them. The figures are of a machine that does nothing else meanwhile.
"""

import argparse
import importlib.util
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from evidence.display.output import unfailing
from experiments.speed import drawing, growth, machine, others, stacks, steps
from experiments.speed.records import Row, table, write_csv
from experiments.speed.workers.building import training_images

HERE = Path(__file__).parent
R = TypeVar("R")
NEEDS = {"jax_scan": "jax", "pythae_iwae": "pythae"}


@unfailing()
def main() -> None:
    """Measure everything, then write."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no worker is left behind, stopped
    parser = argparse.ArgumentParser(prog="make bench", description="How long everything takes here.")
    best = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", choices=["cpu", "cuda"], default=best, help="default here: %(default)s")
    device = parser.parse_args().device
    began = time.monotonic()
    images, kind = training_images()
    notes = [f"Images: {kind}.", *_notes(device)]
    print(machine.description(device), *notes, sep="\n", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "images.npy"
        np.save(path, images)
        rows = _section("training steps", lambda: steps.measure(path, device, contestants()))
        rows += _section("many runs", lambda: stacks.measure(path, device, _is_installed("jax")))
        rows += _section("UIVI", lambda: others.uivi(path, device))
        rows += _section("evaluation", lambda: others.evaluation(path, device))
        rows += _section("start-up", lambda: others.start_up(device))
        points = _section("growth", lambda: growth.measure(path, device))

    minutes = (time.monotonic() - began) / 60
    notes.append(f"Measured on {datetime.now(UTC):%Y-%m-%d} by `make bench` in {minutes:.1f} minutes.")
    write(rows, points, device, notes, HERE)


def write(
    rows: list[Row], points: list[growth.Measured], device: str, notes: list[str], folder: Path
) -> None:
    """All files of one machine."""
    slug, name = machine.slug(device), machine.name(device)
    heading = "\n".join([f"# {name}", "", f"{machine.description(device)}.", *notes])
    report = f"{heading}\n\n{table(rows)}"
    write_csv(folder / f"results-{slug}.csv", rows)
    write_csv(folder / f"growth-{slug}.csv", points)
    (folder / f"results-{slug}.md").write_text(report)
    drawing.draw_steps(rows, name, folder / f"results-{slug}.png")
    drawing.draw_growth(points, name, folder / f"growth-{slug}.png")
    print(f"\n{report}\nwritten: {folder}/results-{slug}.csv, .md, .png and growth-{slug}.csv, .png")


def contestants() -> list[steps.Contestant]:
    """Those that are installed."""
    return [c for c in steps.CONTESTANTS if c.module not in NEEDS or _is_installed(NEEDS[c.module])]


def _notes(device: str) -> list[str]:
    """What a reader would miss."""
    missing = [peer for peer in NEEDS.values() if not _is_installed(peer)]
    notes = [f"Left out: {peer}; `pip install -e '.[bench]'` installs it." for peer in missing]
    if device == "cpu":
        notes.append("No GPU was used." if torch.cuda.is_available() else "No GPU was there.")
        notes.append("The processor has bf16." if machine.has_bf16() else "The processor has no bf16.")
    return notes


def _section(name: str, measure: Callable[[], list[R]]) -> list[R]:
    began = time.monotonic()
    print(f"{name} ...", end=" ", flush=True)
    rows = measure()
    print(f"{time.monotonic() - began:.0f} s", flush=True)
    return rows


def _is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


if __name__ == "__main__":
    main()
