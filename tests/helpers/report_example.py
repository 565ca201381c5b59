"""The report of an example: two studies with invented figures, and what reads its HTML."""

from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from evidence.display import style
from evidence.report import page
from evidence.report.page import Links, Section
from evidence.report.study import Claim, Findings, Picture, Study

ROOT = Path(__file__).resolve().parents[2]
SERVER = "http://127.0.0.1:5000/#/experiments/1/runs/"  # of MLflow; no test sends it a request
NOTHING = pd.DataFrame()
HOSTILE = """<script>alert("1 & 2")</script> | 'x' </table> ](evil) <img src=x onerror=y>"""

IWAE = Study(
    name="iwae_table1",
    target="table1",
    title="VAE and IWAE on MNIST",
    claim="With more samples the IWAE's NLL falls and its active units rise; the VAE's hardly move.",
    source="Burda, Grosse and Salakhutdinov 2015, Table 1, https://arxiv.org/abs/1509.00519",
    costs={"quick": "20 minutes on two CPU cores", "day": "9 hours on two CPU cores"},
    sweeps=lambda budget: iter(()),
    find=lambda runs, folder: FOUND,
)
UIVI = IWAE._replace(
    name="uivi_vae",
    target="uivi",
    title="Explicit and implicit posteriors",
    claim="UIVI beats them.",
    costs={},
)
FOUND = Findings(
    NOTHING,
    NOTHING,
    [
        Claim("The IWAE's NLL falls with k.", True, "96.36, 94.69, 93.63 nats for k = 1, 5, 50"),
        Claim("The IWAE with k = 50 activates more units than the VAE.", True, "34 against 28, one layer"),
        Claim("The VAE's NLL moves by less than half a nat.", False, "0.71 nats from k = 1 to k = 50"),
        Claim("The NLL lies within 0.5 nats of the published one.", None, "13 of 3280 passes trained"),
    ],
    [
        Picture(
            "nll.png", "Test NLL of one layer after 13 passes, beside the published figures (open markers)."
        )
    ],
    [
        "The first three of eight stages (`trainer=quick`): a cell is judged by its direction.",
        f"A long address: https://arxiv.org/abs/1509.00519?{'x' * 80}",
    ],
)


def example(outputs: Path) -> Path:
    """Write a report of two studies, and the folders of the runs beside it; return the page.

    The first study is the MNIST half of Table 1 with invented figures. The second is not measured. The IWAE's runs
    are on a server too. The first run is missing.
    """
    published = pd.read_csv(ROOT / "experiments" / "iwae_table1" / "published.csv").query("data == 'mnist'")
    rows, names = [], []
    for number, cell in enumerate(published.itertuples()):
        model = f"{cell.objective}-k{cell.k}-{'one' if cell.stochastic_layers == 1 else 'two'}_layer-mnist"
        runs = [f"{model}-s{seed}-5a3c{number:x}{seed}" for seed in range(3)]
        ours = cell.nll + 9.6 - 0.15 * number
        row = {
            "data": "MNIST",
            "layers": cell.stochastic_layers,
            "objective": cell.objective.upper(),
            "k": cell.k,
        }
        row |= {"NLL, nats (± sd over seeds)": f"{ours:.2f} ± 0.06", "published": f"{cell.nll:.2f}"}
        row |= {"difference": f"{ours - cell.nll:+.2f}", "active units": f"{cell.active_units_1 + 9} ± 1"}
        row |= {"published ": cell.active_units_1, "seeds": 3, "budget": "13 of 3280 passes"}
        row |= {"S, images": "500, 10,000", "verdict": "short budget", "runs": "; ".join(runs)}
        rows.append(row)
        names += runs
    for name in names[1:]:
        (outputs / name).mkdir(parents=True)
    links = {name: Links(f"../{name}", SERVER + name if "iwae" in name else None) for name in names[1:]}
    (outputs / "report" / IWAE.name).mkdir(parents=True)
    draw(published, outputs / "report" / IWAE.name / "nll.png")
    found = FOUND._replace(results=published, table=pd.DataFrame(rows))
    nothing = Findings(NOTHING, NOTHING, [Claim("UIVI beats the explicit VAE.", None, "")], [], [])
    return page.write(
        [Section(IWAE, found, "make table1"), Section(UIVI, nothing, "make uivi")], links, outputs / "report"
    )


def draw(published: pd.DataFrame, path: Path) -> None:
    figure = Figure(figsize=(6.4, 3.8), dpi=style.DPI, layout="constrained")
    axes = figure.add_subplot(xlabel="k, samples an image", ylabel="test NLL, nats an image")
    for objective, look in {"vae": (style.MIDDLE, "s"), "iwae": (style.DARK, "o")}.items():
        cells, (colour, marker) = published.query("stochastic_layers == 1 and objective == @objective"), look
        k = cells["k"].astype(str)
        axes.errorbar(k, cells["nll"] + 9, 0.2, color=colour, marker=marker, label=objective.upper())
        axes.plot(
            k, cells["nll"], f"{marker}--", color=colour, mfc="w", label=f"{objective.upper()}, published"
        )
    axes.legend(frameon=False, ncols=2)
    figure.savefig(path)


class Element:
    """A tag with its attributes and the text in it."""

    def __init__(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tag, self.attributes, self.text = tag, dict(attributes), ""
        self.classes = (self.attributes.get("class") or "").split()


class Reader(HTMLParser):
    """The elements of an HTML text, in order. Raises AssertionError where a tag is not closed."""

    VOID = ("meta", "link", "img")

    def __init__(self, content: str) -> None:
        super().__init__()
        self.elements: list[Element] = []
        self.open: list[Element] = []
        self.feed(content)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(Element(tag, attrs))
        if tag not in self.VOID:
            self.open.append(self.elements[-1])

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        for element in self.open:
            element.text += data

    def find(self, tag: str, kind: str | None = None) -> list[Element]:
        return [each for each in self.elements if each.tag == tag and (kind is None or kind in each.classes)]

    def texts(self, tag: str, kind: str | None = None) -> list[str]:
        return [" ".join(each.text.split()) for each in self.find(tag, kind)]
