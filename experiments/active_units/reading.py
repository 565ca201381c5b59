"""What the study's CSV files say: a row for each cell, its table, and the paper's claims."""

from pathlib import Path

import pandas as pd

from evidence.evaluation import ACTIVE_THRESHOLD
from evidence.report import compare, measurements
from evidence.report.compare import apart, mean_and_deviation, seeds
from evidence.report.paired import all_below
from evidence.report.study import Claim
from experiments.active_units.modes import FACTOR, modes
from experiments.iwae_table1 import cells
from experiments.iwae_table1.by_k import by_k, excess, steps
from experiments.iwae_table1.paper import KS

PUBLISHED = Path(__file__).parents[1] / "iwae_table1" / "published.csv"
NATS = 0.06  # Burda et al. 2015, Section 5
COUNTED = ("seeds", "passes", "steps", "eval_images", "cell_identity", "data_digest", "code_digest")


def activities(folder: Path, chosen: pd.DataFrame) -> dict[tuple[str, int], pd.DataFrame]:
    """The units of the run with the lowest seed of each cell, by objective and k, as far as it was measured."""
    found: dict[tuple[str, int], pd.DataFrame] = {}
    for _, run in cells.first_seeds(chosen).iterrows():
        units = measurements.read(folder / f"activity-{run['run']}.csv", {"record": run["record"]})
        if len(units):
            found[run["objective"], int(run["k"])] = units
    return found


def results(folder: Path, chosen: pd.DataFrame) -> pd.DataFrame:
    """A row for each cell that was measured: what results.csv keeps."""
    measured = activities(folder, chosen)
    rows = []
    for _, run in cells.first_seeds(chosen).iterrows():
        cell = run["objective"], int(run["k"])
        removal = _removal(folder, run, measured[cell]) if cell in measured else {}
        if removal:
            runs = chosen[(chosen["objective"] == cell[0]) & (chosen["k"] == cell[1])]
            counts = compare.summary(runs, ["test/active_units"])
            rows.append(
                {
                    **dict(zip(cells.CELL, cell, strict=True)),
                    **{name: counts[name] for name in COUNTED},
                    "active_mean": counts["active_units"],
                    "active_sd": counts["active_units_sd"],
                    "training": run["budget"],
                    "seed": run["seed"],
                    **_measured(measured[cell]),
                    **removal,
                    "runs": counts["runs"],
                }
            )
    if not rows:
        return pd.DataFrame()
    published = pd.read_csv(PUBLISHED).query("data == 'mnist' and stochastic_layers == 1")
    published = published.rename(columns={"active_units_1": "published_active_units"})
    return pd.DataFrame(rows).merge(published[[*cells.CELL, "published_active_units"]], "left", cells.CELL)


def table(results: pd.DataFrame) -> pd.DataFrame:
    """The cells to be read."""
    return pd.DataFrame(
        {
            "model": cells.label(row["objective"], row["k"]),
            "active": f"{row['active_units']} of {row['units']} (seed {row['seed']})",
            "active (± sd over seeds)": mean_and_deviation(row["active_mean"], row["active_sd"], 1),
            "seeds": row["seeds"],
            "published": f"{row['published_active_units']:.0f}",
            f"within x{FACTOR:g} of {ACTIVE_THRESHOLD:g}": row["near"],
            f"above {10 * ACTIVE_THRESHOLD:g}": row["well_above"],
            "NLL, nats (± se over images)": f"{row['whole']:.2f} ± {row['whole_se']:.2f}",
            "inactive removed": f"{row['removed']:.2f}",
            "change (± se over images)": f"{row['change']:+.4f} ± {row['change_se']:.4f}",
            "S, images": f"{row['samples']:,}, {row['images']:,}",
            "trained": row["training"],
            "runs": row["runs"],
        }
        for _, row in results.iterrows()
    )


def claims(results: pd.DataFrame, chosen: pd.DataFrame) -> list[Claim]:
    """The paper's three sentences about active units, of what was measured and of the chosen runs."""
    rows = [row for _, row in results.iterrows()]
    two = [row for row in rows if row["are_two"]]
    near = ", ".join(f"{cells.label(row['objective'], row['k'])} {row['near']}" for row in rows)
    judged = f"some band on each side has over twice the units of the band within a factor {FACTOR:g} of the threshold"
    return [
        Claim(
            "log A_u is bimodal, the threshold between its modes.",
            len(two) == len(rows) if rows else None,
            f"{len(two)} of {len(rows)} models ({judged}); near the threshold: {near}; one seed of each"
            if rows
            else "",
        ),
        _rise(rows, chosen),
        _removable(rows),
    ]


def _rise(rows: list["pd.Series[float]"], chosen: pd.DataFrame) -> Claim:
    statement = "The IWAE's active units rise with k; the VAE's by less than half of that."
    active = {(row["objective"], row["k"]): row["active_mean"] for row in rows}
    if ("vae", 1) in active:
        active.setdefault(("iwae", 1), active["vae", 1])  # the same bound
    counted = [row.drop("budget").rename({"training": "budget"}) for row in rows]  # not of what was removed
    unlike = apart(counted, ("budget", "eval_images", "data_digest"))
    if len(active) < 6 or unlike:
        return Claim(statement, None, (unlike or "not all six models are there") if rows else "")
    vae, iwae = ([active[objective, k] for k in KS] for objective in ("vae", "iwae"))
    idle_vae, idle_iwae = (
        [-units for units in by_k(chosen, objective, "test/active_units")] for objective in ("vae", "iwae")
    )
    holds = all_below([*steps(idle_iwae), excess(idle_vae, idle_iwae)])
    words = (
        f"{name} {', '.join(f'{n:.1f}' for n in units)}" for name, units in (("IWAE", iwae), ("VAE", vae))
    )
    return Claim(
        statement,
        holds,
        f"{'; '.join(words)} at k = 1, 5, 50 ({rows[0]['training']}, {seeds(*(row['seeds'] for row in rows))})",
    )


def _removable(rows: list["pd.Series[float]"]) -> Claim:
    statement = f"Removing the inactive units changes the NLL by less than {NATS} nats."
    rows = [row for row in rows if row["active_units"] < row["units"]]
    if not rows:
        return Claim(statement, None, "no model with inactive units")
    worst = max(rows, key=lambda row: abs(row["change"]))
    least = [abs(row["change"]) - 2 * row["change_se"] for row in rows]
    most = [abs(row["change"]) + 2 * row["change_se"] for row in rows]
    holds = True if max(most) < NATS else False if max(least) > NATS else None
    evidence = (
        f"at most {worst['change']:+.4f} ± {worst['change_se']:.4f} ({cells.label(worst['objective'], worst['k'])})"
        f" of {len(rows)} models with inactive units; one seed of each; judged with two"
        " standard errors, over images, of the paired difference"
    )
    return Claim(statement, holds, evidence)


def _measured(table: pd.DataFrame) -> dict[str, object]:
    found = modes(table["activity"])
    return {
        "units": len(table),
        "active_units": int((table["activity"] > ACTIVE_THRESHOLD).sum()),
        "near": found.near,
        "well_above": int((table["activity"] > 10 * ACTIVE_THRESHOLD).sum()),
        "fullest_below": found.below,
        "fullest_above": found.above,
        "are_two": found.are_two,
    }


def _removal(folder: Path, run: "pd.Series[str]", units: pd.DataFrame) -> dict[str, object]:
    """Of the file with the most weights drawn, measured by the code that told the active units."""
    same = {"record": run["record"], "source": units["source"].iloc[0]}
    found = [measurements.read(path, same) for path in sorted(folder.glob(f"removal-{run['run']}-*.csv"))]
    found = [rows for rows in found if len(rows)]
    if not found:
        return {}
    rows = max(found, key=lambda rows: len(rows) * rows["samples"].iloc[0])
    change, samples = rows["removed"] - rows["whole"], rows["samples"].iloc[0]
    return {
        "whole": rows["whole"].mean(),
        "whole_se": rows["whole"].sem(),
        "removed": rows["removed"].mean(),
        "change": change.mean(),
        "change_se": change.sem(),
        "samples": samples,
        "images": len(rows),
        "budget": f"S = {samples}, {len(rows)} images; {run['budget']}",
        **measurements.origin(rows),
    }
