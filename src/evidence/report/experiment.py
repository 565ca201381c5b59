"""Writes the report of one's own sweep: the command `evidence report --experiment NAME`.

Any MLflow experiment will do. outputs/report/NAME/ gets index.html and report.md, the table as table.csv and
table.tex, and the figures as PNG and PDF.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import pandas as pd

from evidence import project, report
from evidence.display.digits import decimals
from evidence.errors import UserError
from evidence.records import files
from evidence.report import latex, page, pictures, protocol
from evidence.report.arguments import OneLine
from evidence.report.cells import Cells, cells, deviation_of
from evidence.report.compare import mean_and_deviation
from evidence.report.frame import finished
from evidence.report.study import Findings, Study

ALSO = re.compile(r"test_[^/]+/(?!nll$).*")  # of the data sets of eval.also the table has the NLL alone


def main(words: Sequence[str]) -> int:
    """Write the report that the command line asks for, and return the exit status. Raises: UserError."""
    parser = OneLine(prog="report", description="Write table, curves and figures of an MLflow experiment.")
    parser.add_argument(
        "--experiment", metavar="NAME", help="the MLflow experiment, which is `name` of its runs"
    )
    arguments = parser.parse_args(words)
    print(f"report: {write(arguments.experiment)}")
    return 0


def write(name: str | None) -> Path:
    """Write the report of the experiment, and return the path of its page.

    Raises: UserError where no finished run of this program is in the experiment, or where there is no store.
    """
    runs = finished(name) if name else pd.DataFrame()
    found = cells(runs) if len(runs) else Cells(pd.DataFrame(), [], [], [])
    if found.table.empty:
        raise UserError(_missing(name, found.notes))
    assert name is not None  # it has runs
    folder = project.root() / "outputs" / "report" / _folder_name(name)
    folder.mkdir(parents=True, exist_ok=True)
    shown = _shown(found)
    caption = _caption(found)
    numbers = [heading not in found.columns or _is_numeric(shown[heading]) for heading in shown]
    label = re.sub(r"[^a-zA-Z0-9]+", "-", name).strip("-") or "runs"
    files.write(folder / "table.tex", latex.table(shown, numbers, caption, label).encode())
    drawn, unknown = pictures.draw(found, folder)
    unlike = [
        note
        for name, like in pd.concat(found.runs).groupby("data")
        for note in protocol.unlike(like, str(name))
    ]
    notes = [*_comparable(found), *unlike, *found.notes, *unknown]
    command = f"evidence report --experiment {name}"
    about = Study(
        name="runs",
        target="report",
        title="Test NLL by " + ", ".join(f"`{heading}`" for heading in found.columns),
        claim=caption,
        source=f"{len(runs)} finished runs of the MLflow experiment `{name}`",
        costs={},
        sweeps=lambda budget: iter(()),
        find=lambda runs, folder: findings,
    )
    findings = Findings(found.table, shown.assign(runs=found.table["runs"]), [], drawn, notes)
    section = page.Section(about, findings, command, ("table.csv", "table.tex"), "")
    links = {
        run: page.Links(os.path.relpath(project.root() / where, folder), url)
        for run, where, url in zip(runs["run"], runs["folder"], runs["url"], strict=True)
    }
    return page.write([section], links, folder, f"Experiment {name}", command)


def _missing(name: str | None, notes: Sequence[str]) -> str:
    """Why there is nothing to report, and which experiments there are."""
    known = report.runs()
    names = (
        known["experiment"][known["record"].notna() & (known["status"] == "FINISHED")]
        if "record" in known
        else []
    )
    there = ", ".join(sorted(set(names)))
    have = f"finished runs are in: {there}" if there else "no experiment has any yet"
    if name is None:
        return f"report: --experiment NAME is missing; {have}"
    return " ".join([f"report: the experiment '{name}' has no finished run to report;", have, *notes])


def _folder_name(name: str) -> str:
    """The experiment's name as that of one folder."""
    return quote(name, safe="").replace(".", "%2E") if set(name) == {"."} else quote(name, safe="")


def _shown(found: Cells) -> pd.DataFrame:
    """The table for readers, as text."""
    cell, table = found.columns, found.table
    users = [name for name in table if deviation_of(name) in table and ALSO.fullmatch(name) is None]
    shown = table[cell].astype(str).assign(n=table["seeds"].astype(str))
    spread = table["nll_sd"].fillna(table["nll_se"])
    shown[f"NLL, nats ({spread_of(table)})"] = list(map(mean_and_deviation, table["nll"], spread))
    several = (table["seeds"] > 1).any()
    over = " (± sd over seeds)" if several else ""
    deviations = {"active_units": "active_units_sd"} | {name: deviation_of(name) for name in users}
    for name, deviation in deviations.items():
        least = int(several) if name == "active_units" else 2 if name.endswith("/nll") else 3
        digits = decimals(table[name], least)
        plain = name.removeprefix("test/").replace("active_units", "active units")
        heading = name if plain in shown or plain == "runs" else plain
        values = zip(table[name], table[deviation], strict=True)
        shown[heading + over] = [mean_and_deviation(mean, spread, digits) for mean, spread in values]
    return shown


def spread_of(table: pd.DataFrame) -> str:
    """What stands after ± in the column of NLLs."""
    single = table["seeds"] == 1
    if not single.any():
        return "± sd over seeds"
    return "± se over images" if single.all() else "± sd over seeds; of one seed ± se over images"


def _caption(found: Cells) -> str:
    """What the table shows: units, what ± means, seeds, S, images and passes as far as all cells share them."""
    table = found.table
    counts = sorted(set(table["seeds"]))
    seeds = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    spread = {
        "± sd over seeds": "± is the standard deviation over seeds",
        "± se over images": "± is the standard error over test images",
    }.get(
        spread_of(table),
        "± is the standard deviation over seeds, or the standard error over test images where n = 1",
    )
    facts = [f"n = {seeds} seed{'s' if counts != [1] else ''}"]
    for name, words in {
        "eval_samples": "S = {:,}",
        "eval_images": "{:,} test images",
        "budget": "trained for {}",
    }.items():
        if table[name].nunique() == 1:
            facts.append(words.format(table[name].iloc[0]))
    return f"Test negative log-likelihood in nats per image (lower is better); {spread}. {', '.join(facts)}."


def _comparable(found: Cells) -> list[str]:
    """A note where lengths or evaluations differ."""
    names = {"budget": "length of training", "eval_samples": "S", "eval_images": "number of test images"}
    unlike = [words for name, words in names.items() if found.table[name].nunique() > 1]
    return (
        [f"The cells differ in {' and '.join(unlike)}: compare only those that agree in it."]
        if unlike
        else []
    )


def _is_numeric(column: "pd.Series[str]") -> bool:
    return bool(pd.to_numeric(column[column != ""], errors="coerce").notna().all())
