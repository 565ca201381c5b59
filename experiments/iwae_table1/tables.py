"""Tables 1 and 3 of Burda et al. 2015: NLL and active units of VAE and IWAE, by k and stochastic layers."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from evidence.report import protocol
from evidence.report.compare import (
    NLL_OVER_SEEDS,
    UNITS_OVER_SEEDS,
    apart,
    mean_and_deviation,
    seeds,
    summaries,
    verdict,
)
from evidence.report.paired import all_below
from evidence.report.selection import Chosen, among, choose
from evidence.report.study import SIDE_BY_SIDE, Budget, Claim, Findings, Picture
from experiments.iwae_table1 import drawing, paper
from experiments.iwae_table1.by_k import by_k, excess, steps
from experiments.iwae_table1.paper import DATA, KS, LAYERS, OBJECTIVES, PASSES

CELL = ["data", "stochastic_layers", "objective", "k"]
METRICS = ["test/nll", "test/nll_se", "test/active_units", "test/active_units_1", "test/active_units_2"]
NAMES = {**DATA, **OBJECTIVES}


def arguments(experiment: str, budget: Budget) -> list[str]:
    """A table's sweep, of one layer but for `paper`. A few passes leave every unit of two layers active."""
    layers = [] if budget == "paper" else ["model=one_layer"]
    return [*SIDE_BY_SIDE, f"experiment={experiment}", *layers, *paper.BUDGETS[budget]]


def chosen(runs: pd.DataFrame) -> Chosen:
    """The runs of each cell, of which there is one for each data set, number of layers, objective and k."""
    runs = among(runs, {"model": LAYERS, "objective": OBJECTIVES})
    return choose(runs.assign(stochastic_layers=runs["model"].map(LAYERS)), CELL, PASSES)


def cells(runs: pd.DataFrame, published: pd.DataFrame) -> pd.DataFrame:
    """A row for each cell of the chosen runs, with its published figures: what results.csv keeps."""
    if runs.empty:
        return pd.DataFrame()
    figures = published.rename(columns=lambda name: name if name in CELL else f"published_{name}")
    figures["position"] = range(len(figures))
    results = summaries(runs, [*CELL, "variant"], METRICS).merge(figures, "left", CELL)
    results["difference"] = results["nll"] - results["published_nll"]
    results["verdict"] = [_verdict(row) for _, row in results.iterrows()]
    results = results.sort_values("position", kind="stable", ignore_index=True)
    return results.drop(columns="position")


def table(results: pd.DataFrame) -> pd.DataFrame:
    """The cells to be read."""
    return pd.DataFrame(
        {
            "data": NAMES.get(row["data"], row["data"]),
            "layers": row["stochastic_layers"],
            "objective": NAMES.get(row["objective"], row["objective"]),
            "k": row["k"],
            NLL_OVER_SEEDS: mean_and_deviation(row["nll"], row["nll_sd"]),
            "se over images": f"{row['nll_se']:.2f}",
            "published NLL": mean_and_deviation(row["published_nll"], float("nan")),
            "difference": "" if pd.isna(row["difference"]) else f"{row['difference']:+.2f}",
            UNITS_OVER_SEEDS: units(row, "active_units"),
            "published units": units(row, "published_active_units"),
            "seeds": row["seeds"],
            "budget": row["budget"],
            "S, images": f"{row['eval_samples']}, {row['eval_images']:,}",
            "verdict": row["verdict"],
            "runs": row["runs"],
        }
        for _, row in results.iterrows()
    )


def units(row: "pd.Series[float]", name: str) -> str:
    """The active units of the layers, the one next to the data first: "25" or "21 + 5"."""
    layers = [f"{name}_{layer}" for layer in range(1, row["stochastic_layers"] + 1)]
    return " + ".join(
        mean_and_deviation(row[each], row.get(f"{each}_sd", float("nan")), 0) for each in layers
    )


def claims(results: pd.DataFrame, runs: pd.DataFrame) -> list[Claim]:
    """What the tables say, for each data set and number of layers, of the cells and of their runs."""
    found = []
    by_kind = results.groupby(["data", "stochastic_layers"], sort=False) if len(results) else []
    for (data, layers), group in by_kind:
        where = f"{NAMES.get(data, data)}, {'one layer' if layers == 1 else 'two layers'}"
        cell = {(row["objective"], row["k"]): row for _, row in group.iterrows()}
        if ("vae", 1) in cell:
            cell.setdefault(("iwae", 1), cell["vae", 1])  # the same bound
        iwae = [cell["iwae", k] for k in KS if ("iwae", k) in cell]
        vae = [cell["vae", k] for k in KS if ("vae", k) in cell]
        complete = len(iwae) == 3 and not apart(iwae)
        both = complete and len(vae) == 3 and not apart([*iwae, *vae])
        like = runs[(runs["data"] == data) & (runs["stochastic_layers"] == layers)]
        nll, vae_nll = (by_k(like, objective, "test/nll") for objective in ("iwae", "vae"))
        idle = [-units for units in by_k(like, "iwae", "test/active_units")]
        gain, vae_gain = (rows[0]["nll"] - rows[-1]["nll"] if both else 0.0 for rows in (iwae, vae))
        found += [
            Claim(
                f"{where}: the IWAE's NLL falls with k.",
                all_below(steps(nll)) if complete else None,
                _series(iwae, "nll", 2, "nats"),
            ),
            Claim(
                f"{where}: the VAE gains little from k: from k = 1 to 50 less than half of what the IWAE gains.",
                all_below([excess(vae_nll, nll)]) if both else None,
                f"VAE {vae_gain:+.2f}, IWAE {gain:+.2f} nats ({_series(vae, 'nll', 2, 'nats')})"
                if both
                else apart([*iwae, *vae]),
            ),
            Claim(
                f"{where}: the IWAE's active units rise with k.",
                all_below(steps(idle)) if complete else None,
                _series(iwae, "active_units", 0, "units"),
            ),
        ]
    return found


def notes(results: pd.DataFrame) -> list[str]:
    """How the runs differ from the published protocol."""
    if results.empty:
        return []
    found = [
        "The pixels of the test images are drawn once for all runs; the authors' are not published. Adam's beta1 is"
        " 0.9 as the paper says; the authors' code has 0.99.",
    ]
    if any(results["variant"].str.contains("backward=top|num_exact=4")):
        found.append(
            "The IWAE backpropagates a few of its k samples (objective.num_exact=4), whose gradient has the"
            " same expectation and half a per cent more variance; the paper backpropagates all."
        )
    if any(results["passes"] != PASSES):
        found.append(
            f"Short trainings are judged by the direction of the claims only; the paper trains {PASSES} passes."
        )
    if any(results["eval_samples"] < paper.SAMPLES):
        found.append(
            f"L_S with S below the paper's {paper.SAMPLES} makes the NLL larger, by some tenths of a nat to a nat."
        )
    return found


def findings(experiment: str, runs: pd.DataFrame, published: Path, folder: Path) -> Findings:
    """The whole, of the experiment's runs, with its picture drawn in the folder."""
    found = chosen(runs)
    results = cells(found.runs, pd.read_csv(published))
    pictures = []
    if len(results):
        drawing.draw(results, folder / "nll.png")
        pictures = [
            Picture(
                "nll.png",
                "Above: test NLL less that of k = 1 of the same objective, whose figures are in the table. Below:"
                " active units of all layers. Bars are one standard deviation of the cell over seeds either way; where"
                " there is one seed there are none. Hollow markers were published, for full trainings.",
            )
        ]
    said = [*notes(results), *protocol.notes(experiment, found.runs)]
    for (data, model), group in found.runs.groupby(["data", "model"], sort=False) if len(results) else []:
        said += protocol.unlike(group, f"{NAMES.get(data, data)}, {model}")
    return Findings(results, table(results), claims(results, found.runs), pictures, [*said, *found.notes])


def _verdict(row: "pd.Series[float]") -> str:
    is_full = row["passes"] == PASSES
    nats = verdict(
        row["nll"], row["published_nll"], paper.NATS if row["k"] >= 5 else paper.NATS_AT_ONE, is_full
    )
    if not is_full or nats == "none published":
        return nats
    layers = [f"active_units_{layer}" for layer in range(1, row["stochastic_layers"] + 1)]
    far = [abs(row[each] - row[f"published_{each}"]) > paper.UNITS for each in layers]
    return f"{nats}; units {'differ' if any(far) else f'within {paper.UNITS}'}"


def _series(rows: list["pd.Series[float]"], name: str, digits: int, unit: str) -> str:
    values = (f"{mean_and_deviation(row[name], row[f'{name}_sd'], digits)} at k = {row['k']}" for row in rows)
    if not rows:
        return ""
    return f"{', '.join(values)} {unit}; {apart(rows) or rows[0]['budget']}, {over(rows)}"


def over(rows: Sequence["pd.Series[float]"]) -> str:
    """How many seeds figures rest on, and what ± is: `3 seeds (± sd over seeds)`, or `one seed`."""
    words = seeds(*(row["seeds"] for row in rows))
    return words if words == "one seed" else f"{words} (± sd over seeds)"
