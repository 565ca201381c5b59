"""`evidence report --experiment NAME`: the report of any sweep, from made-up runs and from trained ones."""

import csv
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import runs
from frames import frame, made_up

from evidence.cli import command_line
from evidence.report import experiment, latex
from evidence.report.cells import Cells, cells, label

CONF = runs.CONF


def columns_of(*made: dict[str, Any]) -> list[str]:
    return cells(frame(*made)).columns


def rows(found: Cells) -> list[tuple[Any, ...]]:
    return list(found.table[[*found.columns, "seeds", "nll"]].itertuples(index=False, name=None))


def test_cells_are_what_differs_and_a_cell_is_a_mean_over_seeds() -> None:
    found = cells(
        frame(
            {"objective": "vae", "seed": 0, "test/nll": 86.0},
            {"objective": "vae", "seed": 1, "test/nll": 87.0},
            {"objective": "vae", "seed": 1, "test/nll": 99.0, "date": "2025-01-01"},  # the later one counts
            {"objective": "iwae", "seed": 0, "test/nll": 84.0, "test/nll_se": 0.3},
        )
    )
    assert found.columns == ["objective"]
    assert rows(found) == [("iwae", 1, 84.0), ("vae", 2, 86.5)]
    iwae, vae = (row for _, row in found.table.iterrows())
    assert vae["nll_sd"] == pytest.approx(0.5**0.5)
    assert pd.isna(vae["nll_se"])
    assert pd.isna(iwae["nll_sd"])
    assert iwae["nll_se"] == 0.3
    (note,) = found.notes
    assert note.startswith(
        "In no row: `vae-50-8-1-2025-01-01` (NLL 99.00, and `vae-50-8-1-2026-01-01`, of the same"
    )


def test_a_setting_is_a_column_where_it_tells_cells_apart_and_else_in_a_note() -> None:
    rate = "trainer.learning_rate"
    assert columns_of({rate: "0.001"}, {rate: "0.0001"}) == [rate]
    confounded = cells(frame({"objective": "vae", rate: "0.001"}, {"objective": "iwae", rate: "0.0001"}))
    assert confounded.columns == ["objective"]
    assert confounded.notes == [
        f"Settings that change together with the table's columns: `{rate}` (0.001, 0.0001)."
    ]
    assert columns_of({"k": 5}, {"k": 50}, {"k": 50, "eval_images": 100}) == ["k", "images"]
    assert columns_of({}, {"seed": 1}) == ["objective"]  # nothing differs


def test_an_option_of_one_objective_is_no_column_of_the_others() -> None:
    kl = "objective.kl"
    found = cells(frame({"objective": "vae", kl: "analytic"}, {"objective": "iwae"}))
    assert (found.columns, found.notes) == (["objective"], [])
    found = cells(frame({"objective": "vae", kl: "a"}, {"objective": "vae", kl: "b"}, {"objective": "iwae"}))
    assert found.columns == ["objective", kl]
    assert [label(row, found.columns) for _, row in found.table.iterrows()] == [
        "iwae",
        "vae, objective.kl = a",
        "vae, objective.kl = b",
    ]


def test_other_code_other_data_and_mixed_runs_are_rows_of_their_own() -> None:
    code, data = {"code_digest": "ffff"}, {"data_digest": "eeee"}
    assert rows(cells(frame({"seed": 0}, {"seed": 1, **code})))[0][:2] == ("c0de00", 1)
    assert cells(frame({"seed": 0}, {"seed": 1, **data})).columns == ["content of the data"]
    found = cells(frame({"seed": 0}, {"seed": 1}, {"seed": 2, "mixed": "two codes"}))
    assert rows(found) == [("", 2, 84.8), ("two codes", 1, 84.8)]


def test_runs_of_an_earlier_version_are_named_and_in_no_row() -> None:
    found = cells(frame({}, {"seed": 1, "identity_version": "1"}))
    assert rows(found) == [("iwae", 1, 84.8)]
    assert found.notes == ["In no row: `iwae-50-8-1-2026-01-01` (made by an earlier version)."]


def test_runs_of_unlike_budgets_are_rows_apart_and_a_note_says_so(report_of: Callable[..., str]) -> None:
    page = report_of({"stages": "3"}, {"stages": "8"}, {"stages": "3", "seed": 1})
    assert "| 13 passes | 2 | 84.80 ± 0.00 |" in page
    assert "| 3280 passes | 1 | 84.80 ± 0.20 |" in page
    assert "The cells differ in length of training: compare only those that agree in it." in page
    assert "NLL, nats (± sd over seeds; of one seed ± se over images)" in page


@pytest.mark.parametrize(
    ("made", "heading", "words"),
    [
        (
            ({},),
            "NLL, nats (± se over images)",
            "n = 1 seed, S = 5,000, 10,000 test images, trained for 3280 passes",
        ),
        (({}, {"seed": 1}), "NLL, nats (± sd over seeds)", "n = 2 seeds"),
    ],
)
def test_the_heading_and_the_caption_say_what_the_spread_is_over(
    made: tuple[dict[str, Any], ...], heading: str, words: str, report_of: Callable[..., str], tmp_path: Path
) -> None:
    page = report_of(*made)
    assert f"| {heading} |" in page
    assert words in page
    (tex,) = tmp_path.rglob("table.tex")
    assert words in tex.read_text()


def test_a_run_without_a_finite_nll_is_in_the_table_and_in_no_figure(report_of: Callable[..., str]) -> None:
    page = report_of({"test/nll": float("nan")})
    assert "No cell has a finite NLL" in page


def test_a_users_metric_is_a_column(report_of: Callable[..., str]) -> None:
    page = report_of({"test/largest_weight": 0.5, "test/elbo": -90.0})
    assert "| n | NLL, nats (± se over images) | active units | largest_weight | runs |" in page
    assert "| 84.80 ± 0.20 | 25 | 0.500 |" in page


def test_another_data_set_is_a_column(report_of: Callable[..., str]) -> None:
    page = report_of({"test_own/nll": 27.6, "test_own/nll_se": 0.5, "test_own/kl": 9.0})
    assert "| NLL, nats (± se over images) | active units | test_own/nll | runs |" in page
    assert "| 84.80 ± 0.20 | 25 | 27.60 |" in page


@pytest.mark.parametrize(
    "name", ["accuracy_sd", "nll_sd", "k", "n", "seeds", "runs", "machine", "S", "budget"]
)
def test_a_users_metric_may_have_any_name(name: str) -> None:
    """It takes the place of no column, neither of a setting nor of another figure."""
    values = {0: 0.8, 1: 0.9}
    made = [
        {"k": k, "seed": seed, "test/nll": 84 + seed, "test/accuracy": value, f"test/{name}": 0.31}
        for k in (5, 50)
        for seed, value in values.items()
    ]
    found = cells(frame(*made))
    shown = experiment._shown(found)
    assert shown["k"].tolist() == ["5", "50"]
    assert shown["n"].tolist() == ["2", "2"]
    assert shown["NLL, nats (± sd over seeds)"].tolist() == ["84.50 ± 0.71"] * 2
    assert shown["accuracy (± sd over seeds)"].tolist() == ["0.850 ± 0.071"] * 2
    own = shown.columns[shown.eq("0.310 ± 0.000").all()]
    assert own.str.contains(name, regex=False).tolist() == [True]
    assert "n = 2 seeds, S = 5,000" in experiment._caption(found)


@pytest.fixture
def report_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """The report of made-up runs, in Markdown."""

    def written(*made: dict[str, Any]) -> str:
        found = pd.DataFrame(
            [{"run_id": str(number), "url": None, **made_up(**each)} for number, each in enumerate(made)]
        )
        monkeypatch.setattr(experiment, "finished", lambda name: found)
        monkeypatch.setattr(experiment.pictures.tracking, "history", lambda *_: [(1, 90.0), (2, 89.0)])
        monkeypatch.setattr(experiment.project, "_root", tmp_path)
        return experiment.write("one of mine").with_name("report.md").read_text()

    return written


def well_formed(tex: str) -> list[list[str]]:
    """The cells of a table in LaTeX, once its braces, environments and marks are found to be in order."""
    plain = re.sub(r"\\[\\{}$&#%_]", "", "\n".join(line for line in tex.splitlines() if line[:1] != "%"))
    depth = 0
    for mark in plain:
        depth += {"{": 1, "}": -1}.get(mark, 0)
        assert depth >= 0
    assert depth == 0
    assert plain.count("$") % 2 == 0
    assert not re.search(r"[_#%^~]", re.sub(r"\$[^$]*\$", "", plain))
    assert re.findall(r"\\begin\{(\w+)\}", tex) == re.findall(r"\\end\{(\w+)\}", tex)[::-1]
    (form,) = re.findall(r"\\begin\{tabular\}\{([lr]+)\}", tex)
    body = tex.split(r"\toprule")[1].split(r"\bottomrule")[0].replace("\\midrule\n", "")
    found = [re.split(r"(?<!\\) & ", line.removesuffix(r" \\")) for line in body.strip().splitlines()]
    assert {len(row) for row in found} == {len(form)}
    return found


def test_latex_is_well_formed_whatever_the_text() -> None:
    hostile = "a_b & 50% {x} \\end{table} #1 $5 ~^ <|> 1 ± 2 \N{MINUS SIGN} 3 \N{MULTIPLICATION SIGN} 4"
    tex = latex.table(pd.DataFrame({hostile: [hostile, 1]}), [False], hostile, "t")
    head, first, _ = well_formed(tex)
    assert head == first
    assert r"a\_b \& 50\% \{x\} \textbackslash{}end\{table\}" in head[0]
    assert r"1 $\pm$ 2 $-$ 3 $\times$ 4" in head[0]


@pytest.mark.parametrize("first", ["[[100]]", "*", "[5pt]"])
def test_latex_takes_no_cell_for_an_argument_of_the_line_above(first: str) -> None:
    tex = latex.table(pd.DataFrame({"model.hidden": [first, first]}), [False], "", "t")
    assert not re.search(r"(\\\\|\\midrule|\\toprule)\s*[\[*]", tex)
    assert first in tex


@pytest.mark.usefixtures("no_figures")
def test_a_small_sweep_becomes_table_and_figures(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grid = ["-m", "name=my_sweep", "objective=vae,iwae", "seed=0,1", "k=2", "eval.images=20"]
    grid += ["trainer.steps=null", "trainer.stages=2", "trainer.batch_size=100"]
    assert runs.start(*grid) == 0
    assert command_line.main(["report", "--experiment", "my_sweep"], CONF) == 0
    folder = root / "outputs" / "report" / "my_sweep"
    assert f"report: {folder / 'index.html'}" in capsys.readouterr().out
    table = list(csv.DictReader((folder / "table.csv").read_text().splitlines()))
    assert [(row["objective"], row["seeds"]) for row in table] == [("iwae", "2"), ("vae", "2")]
    found = {row["run"]: row["test/nll"] for _, row in experiment.finished("my_sweep").iterrows()}
    of_vae = [value for name, value in found.items() if name.startswith("vae")]
    assert float(table[1]["nll"]) == pytest.approx(sum(of_vae) / 2, abs=1e-3)
    head, *body = well_formed((folder / "table.tex").read_text())
    assert head == [
        "objective",
        "n",
        r"NLL, nats ($\pm$ sd over seeds)",
        r"active units ($\pm$ sd over seeds)",
    ]
    assert [row[:2] for row in body] == [["iwae", "2"], ["vae", "2"]]
    for figure in ("cells", "curves"):
        assert (folder / f"{figure}.pdf").read_bytes().startswith(b"%PDF")
        assert f'<a href="{figure}.pdf">PDF</a>' in (folder / "index.html").read_text()


def test_a_bad_name_is_one_line_with_the_good_ones(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def said(*words: str) -> str:
        assert command_line.main(["report", *words], CONF) == 2
        return capsys.readouterr().err

    assert said().startswith("evidence: report: --experiment NAME is missing")
    assert runs.start("name=mine", "trainer.steps=20") == 0
    runs.begin("name=begun", "seed=2")
    capsys.readouterr()
    have = "finished runs are in: mine\n"
    assert said() == f"evidence: report: --experiment NAME is missing; {have}"
    for name in ("nix", "begun"):
        expected = f"evidence: report: the experiment '{name}' has no finished run to report; {have}"
        assert said("--experiment", name) == expected
    assert said("mine") == "evidence: unrecognized arguments: mine\n"
    assert not (root / "outputs" / "report").exists()
