"""Many runs on one device: a step of one run alone, and of each of ten that are stacked; JAX beside them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from experiments.speed.records import Row
from experiments.speed.turns import Reply, ratio, spread, take_turns, workers

RUNS = 10
MODELS = {
    "iwae": "one layer",
    "iwae_top": "one layer, top 4",
    "two_layers": "two layers",
    "uivi": "UIVI, batch 100",
}
K = {"iwae": 50, "iwae_top": 50, "two_layers": 50, "uivi": 1}


def measure(images: Path, device: str, with_jax: bool) -> list[Row]:
    """Microseconds a step of a run. On a GPU with TF32 too, which is what JAX computes with there."""
    rows: list[Row] = []
    for kind, title in MODELS.items():
        precisions = ("float32", "tf32") if device == "cuda" else ("float32",)
        commands: dict[str, tuple[str, ...]] = {
            f"evidence, {_runs(runs)}, {precision}": ("stacked", kind, str(runs), precision)
            for runs in (1, RUNS)
            for precision in precisions
        }
        if with_jax and kind == "iwae":
            commands |= {f"JAX, {_runs(runs)}": ("jax_scan", str(runs)) for runs in (1, RUNS)}
        with workers(images, device, commands) as team:
            rows += compared(take_turns(team, str(K[kind])), f"{title}, k = {K[kind]}", device)
    return rows


def compared(replies: Mapping[str, Sequence[Reply]], case: str, device: str) -> list[Row]:
    """Each program's time, and that of JAX with as many runs over it."""
    seconds = {name: [reply.seconds for reply in each] for name, each in replies.items()}
    rows = []
    for name, own in seconds.items():
        peer = next((jax for jax in seconds if jax.startswith("JAX") and jax.split(", ")[1] in name), None)
        over = None if peer is None else ratio(seconds[peer], own)
        times = spread([1e6 * second for second in own])
        rows.append(
            Row("Many runs", case, name, device, "us a step of a run", *times, len(own), jax_over_it=over)
        )
    return rows


def _runs(number: int) -> str:
    return "one run" if number == 1 else f"{number} runs"
