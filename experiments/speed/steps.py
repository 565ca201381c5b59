"""Training steps, everybody's beside everybody's, and what can be said of them in ratios."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from experiments.speed import floor
from experiments.speed.records import Row
from experiments.speed.setting import BATCH, NUM_EXACT
from experiments.speed.turns import Reply, ratio, spread, take_turns, workers

CASES = (1, 5, 50)
RATE = "matrix product"
JAX, PYTHAE, PLAIN = "JAX, jit and scan", "pythae", "plain eager PyTorch"


class Contestant(NamedTuple):
    """A name for the table and a worker's module and options; `num_exact`: None where all samples go backward."""

    name: str
    module: str
    options: tuple[str, ...] = ()
    num_exact: int | None = None


CONTESTANTS = (
    Contestant("evidence, compiled", "stacked", ("iwae", "1", "float32")),
    Contestant("evidence, compiled, top 4", "stacked", ("iwae_top", "1", "float32"), NUM_EXACT),
    Contestant("evidence, as it stands", "ours", ("all",)),
    Contestant("evidence, as it stands, top 4", "ours", ("top",), NUM_EXACT),
    Contestant(JAX, "jax_scan"),
    Contestant("plain, denormals flushed, fused Adam", "plain", ("tuned",)),
    Contestant(PLAIN, "plain"),
    Contestant(PYTHAE, "pythae_iwae"),
)


def measure(images: Path, device: str, contestants: Sequence[Contestant]) -> list[Row]:
    """Rows for each k; few samples backward only where that leaves some out."""
    commands = {c.name: (c.module, *c.options) for c in contestants} | {RATE: ("products",)}
    rows: list[Row] = []
    with workers(images, device, commands) as team:
        for k in CASES:
            here = [c for c in contestants if c.num_exact is None or c.num_exact + 1 < k]
            taking_part = {name: team[name] for name in [*(c.name for c in here), RATE]}
            rows += compared(here, take_turns(taking_part, str(k)), k, device)
    return rows


def compared(
    contestants: Sequence[Contestant], replies: Mapping[str, Sequence[Reply]], k: int, device: str
) -> list[Row]:
    """Each contestant's time, in ms, over its floor and under its peers'; the machine's rate, in GFLOP/s, last."""
    seconds = {name: [reply.seconds for reply in replies[name]] for name in replies}
    per_product = floor.product(*floor.SHAPE)
    rows = []
    for contestant in contestants:
        if contestant.name not in seconds:
            continue
        own = seconds[contestant.name]
        products = floor.step(k, BATCH, contestant.num_exact) / per_product
        more = {
            f"{peer}_over_it": ratio(seconds[name], own)
            for peer, name in (("jax", JAX), ("pythae", PYTHAE), ("plain", PLAIN))
            if name in seconds
        }
        more["over_floor"] = ratio(own, [products * second for second in seconds[RATE]])
        times = spread([1e3 * second for second in own])
        rows.append(Row("Training step", f"k = {k}", contestant.name, device, "ms", *times, len(own), **more))
    rates = spread([per_product / second / 1e9 for second in seconds[RATE]])
    name = "{}x{}x{}, alone".format(*floor.SHAPE)
    rows.append(Row("Training step", f"k = {k}", name, device, "GFLOP/s", *rates, len(seconds[RATE])))
    return rows
