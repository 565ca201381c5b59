"""Few samples in IWAE's backward pass: the variance they add, the time they save, and where training ends.

The variance is that of the gradient given a batch; the same images, and the same samples, serve every m.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pandas as pd
import torch
from matplotlib.ticker import StrMethodFormatter
from torch import Tensor

from evidence import compiling, data, project, training
from evidence.config.settings import validate
from evidence.display import style
from evidence.display.output import unfailing
from evidence.display.style import DARK, MIDDLE, THIRD
from evidence.models import LatentVariableModel
from evidence.numerics import effective_sample_size
from evidence.objectives import IWAE, Objective
from evidence.parts import Parts, restore
from evidence.records import checkpoints, lineage
from evidence.records.directory import RunDirectory
from evidence.records.record import Record
from evidence.report.frame import finished
from evidence.report.selection import Chosen, choose, pairs
from evidence.runs.build import build
from experiments.few_samples.gradients import PARTS, added_variance, full_variance, products

HERE = Path(__file__).parent
K, BATCH = 50, 20
EXPERIMENT = "evidence"  # of MLflow: runs without a name
CHOICE = {"objective": "iwae", "k": K, "model": "one_layer", "data": "mnist"}
CHOICE |= {"trainer.name": "quick", "stages": "3"}
NAMES = {f"test/{name}": name for name in ("nll", "nll_se", "active_units")}
SHOWN = ["seed", "backward", "nll", "nll_se", "active_units", "eval_samples", "eval_images", "run"]
EXACT = [0, 1, 2, 3, 4, 6, 8, 12]  # m; 0 draws one sample by its weight
BACKWARD = {"null": "all", "4": "top"}  # of nll.csv, by objective.num_exact
WARM_UP, STEPS, ROUNDS = 20, 10, 21  # of the timing


def variances(model: LatentVariableModel, batches: Iterator[Tensor], images: int) -> pd.DataFrame:
    """The variance of each m and part over the full one: a row for each m, with its standard errors.

    The same samples serve every m. The images are independent, so a ratio of two means over them has the standard error
    of mean(added - ratio * full) / mean(full).
    """
    full: dict[str, list[Tensor]] = {part: [] for part in PARTS}
    added: dict[tuple[int, str], list[Tensor]] = {(m, part): [] for m in EXACT for part in PARTS}
    sizes = []
    for _ in range(images // BATCH):
        x = next(batches)
        log_w, gradients = products(model, x, torch.randn(2 * K, len(x), sum(model.latent_sizes)))
        halves = log_w[:K].softmax(0), log_w[K:].softmax(0)
        sizes.append(effective_sample_size(log_w[:K]))
        for part, product in gradients.items():
            full[part].append(full_variance(*halves, product))
            blocks = product[:, :K, :K], product[:, K:, K:]
            for m in EXACT:
                both = [added_variance(w, block, m) for w, block in zip(halves, blocks, strict=True)]
                added[m, part].append((both[0] + both[1]) / 2)
    rows = []
    for m in EXACT:
        row: dict[str, float] = {"m": m, "effective_sample_size": torch.cat(sizes).mean().item()}
        for part in PARTS:
            ratio, error = ratio_of_means(torch.cat(added[m, part]), torch.cat(full[part]))
            row |= {part: 1 + ratio, f"{part}_se": error}
        rows.append(row)
    return pd.DataFrame(rows)


def ratio_of_means(above: Tensor, below: Tensor) -> tuple[float, float]:
    """mean(above) / mean(below) of pairs that are independent of one another, and its standard error."""
    ratio = above.mean() / below.mean()
    error = (above - ratio * below).std() / below.mean() / len(above) ** 0.5
    return ratio.item(), error.item()


def step_times(
    parts: Parts,
    objectives: Mapping[int | str, Objective],
    differentiate: training.Differentiate,
    batches: Iterator[Tensor],
) -> pd.DataFrame:
    """Seconds of a compiled step over that of "all", for each m: median and quartiles of ratios taken in turn."""
    seconds: dict[object, list[float]] = {name: [] for name in objectives}
    for repetition in range(1 + ROUNDS):
        for name, objective in objectives.items():
            x = [next(batches) for _ in range(STEPS if repetition else WARM_UP)]
            began = time.perf_counter()
            for batch in x:
                _step(parts, objective, differentiate, batch)
            seconds[name].append((time.perf_counter() - began) / len(x))
    rows = []
    for m in EXACT:
        ratios = [own / whole for own, whole in zip(seconds[m][1:], seconds["all"][1:], strict=True)]
        low, median, high = statistics.quantiles(ratios, n=4)
        milliseconds = 1e3 * statistics.median(seconds[m][1:])
        rows.append(
            {"m": m, "time": median, "time_low": low, "time_high": high, "milliseconds": milliseconds}
        )
    return pd.DataFrame(rows)


def ended(runs: pd.DataFrame) -> Chosen:
    """The like runs of all and of few samples backward, one for each seed, of all finished runs."""
    runs = runs.reindex(columns=[*dict.fromkeys([*runs, *CHOICE, *NAMES, "objective.num_exact"])])
    for name, value in CHOICE.items():
        runs = runs[runs[name] == value]
    runs = runs.rename(columns=NAMES).assign(backward=runs["objective.num_exact"].map(BACKWARD))
    chosen, notes = choose(runs[runs["backward"].isin(["all", "top"])], ["backward"])
    return Chosen(chosen.sort_values(["seed", "backward"]), notes)


def paired_difference(ended: pd.DataFrame) -> tuple[float, float, list[str]]:
    """NLL of the top 4 less that of all samples, the mean over seeds and its standard error; what has no pair."""
    few, full = (ended[ended["backward"] == backward] for backward in ("top", "all"))
    found, notes = pairs(few, full)
    difference = pd.Series([run["nll"] - other["nll"] for run, other in found], dtype=float)
    return float(difference.mean()), float(difference.sem()), notes


def draw(variance: pd.DataFrame, path: Path) -> None:
    """What a few samples add to the variance of the gradient, and the time of a step, against m."""
    figure, ((left, right),) = style.panels(1, 2, (9.0, 3.8))
    styles = zip((THIRD, MIDDLE, DARK), "s^o", strict=True)
    for (step, rows), (colour, marker) in zip(variance.groupby("step"), styles, strict=True):
        label = f"step {step:,}: {rows['effective_sample_size'].iloc[0]:.1f} effective of {K}"
        line = style.look(colour, marker, capsize=3, label=label)
        left.errorbar(rows["m"], 100 * (rows["all"] - 1), 100 * rows["all_se"], **line)
        bars = [rows["time"] - rows["time_low"], rows["time_high"] - rows["time"]]
        right.errorbar(rows["m"], rows["time"], bars, **line)
    left.axhline(3, color="0.4", linestyle=":", linewidth=1)
    left.text(max(EXACT), 3, "3%", ha="right", va="bottom")
    left.set_yscale("log")
    left.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    left.set_ylabel("variance added (% of the full gradient's)")
    left.legend(frameon=False)
    right.axhline(1, color="0.4", linestyle=":", linewidth=1)
    right.set_ylim(bottom=0)
    right.set_ylabel("time of a step (1: all samples)")
    for axes in left, right:
        axes.set_xlabel("m, samples backpropagated exactly (0: sampled)")
        axes.set_xticks(EXACT)
        axes.spines[["top", "right"]].set_visible(False)
    style.save(figure, path)


@unfailing()
def main() -> None:
    """Write variance.csv, nll.csv and variance.png beside this file."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument(
        "--images", type=int, default=10_000, help="for the variance at each checkpoint; 0 leaves it as it is"
    )
    arguments = parser.parse_args()
    torch.set_flush_denormal(True)
    runs = finished(EXPERIMENT)
    chosen, notes = ended(runs) if len(runs) else Chosen(runs, [])
    if chosen.empty:
        sys.exit("evidence: there are no finished runs to compare; make few-samples trains them")
    table = chosen[SHOWN]
    table.to_csv(HERE / "nll.csv", index=False, float_format="%.4f")
    print(table.to_string(index=False))
    difference, error, unpaired = paired_difference(chosen)
    print(f"NLL of top less that of all, paired by seed: {difference:.3f} ± {error:.3f} nats")
    for note in (*notes, *unpaired):
        print(note)
    if arguments.images:
        first = RunDirectory(project.root() / chosen["folder"].iloc[0])
        variance = at_checkpoints(first, arguments.images)
        variance.to_csv(HERE / "variance.csv", index=False, float_format="%.5f")
        draw(variance, HERE / "variance.png")
        print(variance.round(4).to_string(index=False))


def at_checkpoints(directory: RunDirectory, images: int) -> pd.DataFrame:
    """Variances and times at the start of a run, after its first stage and at its end."""
    parts = build(validate(directory.settings), torch.device("cpu"), project.root())
    objectives: dict[int | str, Objective] = {"all": IWAE(K)}
    objectives |= {m: IWAE(K, m) for m in EXACT}
    differentiate = compiling.compiled(training.gradients)
    record = directory.read() or Record()
    same_path = lineage.same_path(directory, record)
    paths = {step: path for other in same_path for step, path in other.checkpoints().items()}
    steps = sorted(step for step in paths if step <= record.steps)
    tables = []
    for step in [*steps[:2], steps[-1]]:
        restore(checkpoints.load(paths[step]), parts.stateful)
        torch.manual_seed(0)  # the same images and noise at each
        batches = data.batches(parts.dataset, BATCH, 0, 0, "cpu")
        table = variances(parts.model, batches, images).merge(
            step_times(parts, objectives, differentiate, batches)
        )
        table.insert(0, "step", step)
        tables.append(table)
    return pd.concat(tables)


def _step(parts: Parts, objective: Objective, differentiate: training.Differentiate, x: Tensor) -> None:
    parameters = list(parts.model.parameters())
    found, _ = differentiate(parts.model, objective, parameters, x, "sum")
    training.set_gradients(parameters, found)
    parts.optimizer.step()


if __name__ == "__main__":
    import run  # noqa: F401  makes the checkout the root

    main()
