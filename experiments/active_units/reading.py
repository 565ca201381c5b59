"""What the study's CSV files say: a row for each cell, its table, and the paper's claims."""

from pathlib import Path

import pandas as pd

from evidence.evaluation import ACTIVE_THRESHOLD
from evidence.report.judging import mean_and_deviation
from evidence.report.study import Claim
from experiments import cells
from experiments.active_units.modes import FACTOR, modes

PUBLISHED = Path(__file__).parents[1] / "iwae_table1" / "published.csv"
NATS = 0.06  # Burda et al. 2015, Section 5


def activities(folder: Path) -> dict[tuple[str, int], pd.DataFrame]:
    """The units of each cell's longest measured run, by objective and k."""
    found: dict[tuple[str, int], pd.DataFrame] = {}
    for path in sorted(folder.glob("activity-*.csv")):
        table = pd.read_csv(path)
        cell = (table["objective"][0], int(table["k"][0]))
        if cell not in found or table["length"][0] > found[cell]["length"][0]:
            found[cell] = table
    return dict(sorted(found.items(), key=lambda item: (item[0][0] != "vae", item[0][1])))


def results(folder: Path) -> pd.DataFrame:
    """A row for each cell: what results.csv keeps."""
    rows = [
        {"objective": objective, "k": k, **_measured(table), **_removal(folder, table["run"][0])}
        for (objective, k), table in activities(folder).items()
    ]
    if not rows:
        return pd.DataFrame()
    counts = pd.read_csv(folder / "counts.csv")[
        [*cells.CELL, "active_units", "active_units_sd", "seeds", "length"]
    ]
    counts.columns = [*cells.CELL, "active_mean", "active_sd", "seeds", "counted_length"]
    published = pd.read_csv(PUBLISHED).query("data == 'mnist' and stochastic_layers == 1")
    published = published.rename(columns={"active_units_1": "published_active_units"})
    return (
        pd.DataFrame(rows)
        .merge(counts, "left", cells.CELL)
        .merge(published[[*cells.CELL, "published_active_units"]], "left", cells.CELL)
    )


def table(results: pd.DataFrame) -> pd.DataFrame:
    """The cells to be read."""
    return pd.DataFrame(
        {
            "model": cells.label(row["objective"], row["k"]),
            "active, seed 0": f"{row['active_units']} of {row['units']}",
            "over seeds": f"{mean_and_deviation(row['active_mean'], row['active_sd'], 1)} ({row['seeds']:.0f})",
            "published": f"{row['published_active_units']:.0f}",
            f"within x{FACTOR:g} of {ACTIVE_THRESHOLD:g}": row["near"],
            f"above {10 * ACTIVE_THRESHOLD:g}": row["well_above"],
            "NLL, nats": f"{row['whole']:.2f} ± {row['whole_se']:.2f}",
            "inactive removed": f"{row['removed']:.2f}",
            "change": f"{row['change']:+.4f} ± {row['change_se']:.4f}",
            "S, images": f"{row['samples']:,}, {row['images']:,}",
            "trained": row["training"],
            "runs": row["runs"],
        }
        for _, row in results.iterrows()
    )


def claims(results: pd.DataFrame) -> list[Claim]:
    """The paper's three sentences about active units."""
    rows = [row for _, row in results.iterrows()]
    two = [row for row in rows if row["are_two"]]
    near = ", ".join(f"{cells.label(row['objective'], row['k'])} {row['near']}" for row in rows)
    judged = f"some band on each side has over twice the units of the band within a factor {FACTOR:g} of the threshold"
    return [
        Claim(
            "log A_u is bimodal, the threshold between its modes.",
            len(two) == len(rows) if rows else None,
            f"{len(two)} of {len(rows)} models ({judged}); near the threshold: {near}" if rows else "",
        ),
        _rise(rows),
        _removable(rows),
    ]


def _rise(rows: list["pd.Series[float]"]) -> Claim:
    statement = "The IWAE's active units rise with k; the VAE's by less than half of that."
    active = {(row["objective"], row["k"]): row["active_mean"] for row in rows}
    if ("vae", 1) in active:
        active.setdefault(("iwae", 1), active["vae", 1])  # the same bound
    complete = len(active) == 6 and len({row["counted_length"] for row in rows}) == 1
    if not complete:
        return Claim(statement, None, "not all six models are there, trained equally long" if rows else "")
    vae, iwae = ([active[objective, k] for k in (1, 5, 50)] for objective in ("vae", "iwae"))
    holds = iwae[0] < iwae[1] < iwae[2] and abs(vae[2] - vae[0]) < (iwae[2] - iwae[0]) / 2
    words = (
        f"{name} {', '.join(f'{n:.1f}' for n in units)}" for name, units in (("IWAE", iwae), ("VAE", vae))
    )
    seeds = min(row["seeds"] for row in rows)
    return Claim(
        statement,
        holds,
        f"{'; '.join(words)} at k = 1, 5, 50 ({rows[0]['training']}, at least {seeds} seed(s))",
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
        f" of {len(rows)} models with inactive units; judged with two standard errors of the paired difference"
    )
    return Claim(statement, holds, evidence)


def _measured(table: pd.DataFrame) -> dict[str, object]:
    found = modes(table["activity"])
    first = table.iloc[0]
    return {
        "units": len(table),
        "active_units": int((table["activity"] > ACTIVE_THRESHOLD).sum()),
        "near": found.near,
        "well_above": int((table["activity"] > 10 * ACTIVE_THRESHOLD).sum()),
        "fullest_below": found.below,
        "fullest_above": found.above,
        "are_two": found.are_two,
        "length": first["length"],
        "training": first["training"],
        "runs": first["run"],
    }


def _removal(folder: Path, run: str) -> dict[str, object]:
    """Of the file with the most weights drawn."""
    found = [pd.read_csv(path) for path in folder.glob(f"removal-{run}-*.csv")]
    if not found:
        return {}
    rows = max(found, key=lambda rows: len(rows) * rows["samples"][0])
    change, last = rows["removed"] - rows["whole"], rows.iloc[-1]
    return {
        "whole": rows["whole"].mean(),
        "whole_se": rows["whole"].sem(),
        "removed": rows["removed"].mean(),
        "change": change.mean(),
        "change_se": change.sem(),
        "samples": last["samples"],
        "images": len(rows),
        "budget": f"S = {last['samples']}, {len(rows)} images; {last['training']}",
        **{name: last[name] for name in ("machine", "date", "commit")},
    }
