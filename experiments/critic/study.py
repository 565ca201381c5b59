"""The critic-weighted update beside VAE and IWAE."""

import math
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from evidence.report import measurements, protocol
from evidence.report.compare import NLL_OVER_SEEDS, UNITS_OVER_SEEDS, mean_and_deviation, seeds, summary
from evidence.report.frame import finished
from evidence.report.paired import Paired, all_below
from evidence.report.selection import Chosen, among, choose, pairs
from evidence.report.study import SIDE_BY_SIDE, Budget, Claim, Findings, Picture, Study
from experiments.critic import drawing
from experiments.critic.measuring import BASELINE_SAMPLES, DRAWS, MEASURING, measure_gradients
from experiments.iwae_table1.paper import BUDGETS, PASSES

NAME = "critic"
K = 5  # decoder passes an image and step, of every objective
CRITIC = ["objective=critic", f"k={K}"]
CHOICES = [
    ["objective=vae,iwae", f"k={K}"],
    [*CRITIC, "objective.encoder=literal", "objective.target=elbo"],
    [*CRITIC, "objective.encoder=path,elbo", "objective.target=evidence,elbo"],
]
FORM = ("objective.encoder", "objective.target")  # settings
METRICS = ["test/nll", "test/nll_se", "test/active_units", "critic/clipped_fraction"]
ORDER = ["VAE", "IWAE", "path, evidence", "path, elbo", "elbo, evidence", "elbo, elbo", "literal, elbo"]

IMAGES: dict[Budget, int] = {"quick": 5, "day": 25, "paper": 100}  # evenly spaced test images
REFERENCE, LITERAL = "VAE, and encoder=elbo", "literal, unbounded"


def sweeps(budget: Budget) -> Iterator[list[str]]:
    """VAE and IWAE; the literal form with the post's target; the working forms with both targets."""
    for choices in CHOICES:
        yield [*SIDE_BY_SIDE, f"experiment={NAME}", *BUDGETS[budget], *choices]


def measure(folder: Path, budget: Budget) -> None:
    """gradients-<run>.csv: a row for each image, form and k, all on the study's VAE with the lowest seed."""
    vae = _vae(_chosen(finished(NAME)).runs)
    if vae is not None:
        measure_gradients(folder, vae, IMAGES[budget])


def find(runs: pd.DataFrame, folder: Path) -> Findings:
    """The NLL of the runs, and the gradients on the VAE that is among them."""
    chosen = _chosen(runs)
    vae = _vae(chosen.runs)
    trained_forms, unpaired = _forms(chosen.runs)
    measured = pd.DataFrame()
    if vae is not None:
        measured = measurements.read(folder / f"gradients-{vae['run']}.csv", {"record": vae["record"]})
    gradients = _gradients(measured)
    pictures = []
    if len(trained_forms):
        drawing.draw_nll(trained_forms, folder / "nll.png")
        pictures.append(Picture("nll.png", NLL_CAPTION))
    if len(gradients):
        drawing.draw_gradients(gradients, folder / "gradients.png")
        pictures.append(Picture("gradients.png", GRADIENTS_CAPTION))
    results = pd.concat([trained_forms, gradients], ignore_index=True)
    notes = [*NOTES, *protocol.notes(NAME, chosen.runs, FORM), *unpaired, *chosen.notes]
    notes += measurements.notes(MEASURING, [measured])
    return Findings(results, _table(trained_forms), _claims(trained_forms, gradients), pictures, notes)


def _chosen(runs: pd.DataFrame) -> Chosen:
    """The runs of each form."""
    runs = among(runs, {"k": [K], "data": ["mnist"], "model": ["one_layer"]})
    if runs.empty:
        return Chosen(runs, [])
    forms = [_form(*each) for each in zip(runs["objective"], runs["variant"], strict=True)]
    runs = runs.assign(form=forms)
    return choose(runs[runs["form"].isin(ORDER)], ["form"], PASSES)


def _vae(chosen: pd.DataFrame) -> "pd.Series[str] | None":
    """The VAE of the lowest seed, on which gradients are taken."""
    vae = chosen[chosen["form"] == "VAE"].sort_values("seed") if len(chosen) else chosen
    return vae.iloc[0] if len(vae) else None


def _forms(chosen: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """A row for each form, with the difference to the VAE paired by seed; and which runs have no pair, and why."""
    if chosen.empty:
        return pd.DataFrame(), []
    vae = chosen[chosen["form"] == "VAE"]
    rows, notes = [], []
    for form, group in chosen.groupby("form", sort=False):
        found = pairs(group, vae)
        notes += found.notes
        gaps = pd.Series([run["test/nll"] - other["test/nll"] for run, other in found.runs], dtype=float)
        paired = {"pairs": len(gaps), "difference": gaps.mean(), "difference_sd": gaps.std()}
        rows.append({"form": form, "k": K} | summary(group, METRICS) | paired)
    results = pd.DataFrame(rows).rename(columns={"critic/clipped_fraction": "clipped_fraction"})
    return results.sort_values("form", key=lambda names: names.map(ORDER.index)).reset_index(drop=True), notes


def _form(objective: str, variant: str) -> str:
    """VAE, IWAE, or the critic's encoder and target."""
    if objective != "critic":
        return objective.upper()
    options = dict(option.partition("=")[::2] for option in variant.split(","))
    return f"{options.get('encoder')}, {options.get('target')}"


def _gradients(measured: pd.DataFrame) -> pd.DataFrame:
    """Form by form and k by k, the images' mean signal-to-noise ratios with their standard errors."""
    if measured.empty:
        return measured
    rows = []
    for (form, k), group in measured.groupby(["form", "k"], sort=False):
        ratio = group["signal"] / group["variance"]
        first = group.iloc[0]
        rows.append(
            {
                "form": form,
                "k": k,
                "images": len(group),
                "draws": first["num_draws"],
                "snr": group["snr"].mean(),
                "snr_se": group["snr"].sem(),
                "squared_snr": ratio.mean(),
                "squared_snr_se": ratio.sem(),
                "squared_mean": group["signal"].mean(),
                "runs": first["run"],
                "budget": first["budget"],
                **measurements.origin(group),
            }
        )
    return pd.DataFrame(rows)


def _table(results: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "objective": row["form"] if row["form"] in ("VAE", "IWAE") else f"critic: {row['form']}",
            "k": row["k"],
            NLL_OVER_SEEDS: mean_and_deviation(row["nll"], row["nll_sd"]),
            "se over images": f"{row['nll_se']:.2f}",
            "published": "none published",
            "less the VAE's (± sd over seeds)": ""
            if row["form"] == "VAE"
            else mean_and_deviation(row["difference"], row["difference_sd"]),
            "clipped at the end": ""
            if pd.isna(row.get("clipped_fraction"))
            else f"{row['clipped_fraction']:.0%}",
            UNITS_OVER_SEEDS: mean_and_deviation(row["active_units"], row["active_units_sd"], 0),
            "seeds": row["seeds"],
            "budget": row["budget"],
            "S, images": f"{row['eval_samples']}, {row['eval_images']:,}",
            "runs": row["runs"],
        }
        for _, row in results.iterrows()
    )


def _claims(results: pd.DataFrame, gradients: pd.DataFrame) -> list[Claim]:
    return [_silence(gradients), *(_beats(results, form) for form in ORDER[2:])]


def _silence(gradients: pd.DataFrame) -> Claim:
    """R draws tell a mean from noise where |E g|^2 is above tr Var g / R, the squared norm of noise alone."""
    statement = "The literal form, unbounded, gives the encoder no signal that stands out of its noise; the VAE's does."
    if gradients.empty:
        return Claim(statement, None, "not measured")
    by_form = {form: group.set_index("k") for form, group in gradients.groupby("form")}
    literal, vae = by_form[LITERAL], by_form[REFERENCE]
    floor = 1 / vae["draws"].iloc[0]
    holds = (literal["squared_snr"] < floor).all() and (vae["squared_snr"] > floor).all()
    figures = "; ".join(
        f"k = {k}: {_ratio(literal.loc[k])} of the literal form, {_ratio(row)} of the VAE"
        for k, row in vae.iterrows()
    )
    where = f"noise alone {floor:.1e}; {vae['images'].iloc[0]} images; {vae['budget'].iloc[0]}, one seed"
    return Claim(statement, bool(holds), f"|E g|² / tr Var g at {figures}; {where}")


def _ratio(row: pd.Series) -> str:
    return f"{row['squared_snr']:.1e} ± {row['squared_snr_se']:.0e}"


def _beats(results: pd.DataFrame, form: str) -> Claim:
    encoder, target = form.split(", ")
    statement = f"encoder={encoder} with target={target} ends below the VAE's NLL."
    found = results[results["form"] == form] if len(results) else results
    if found.empty or not found["pairs"].iloc[0]:
        return Claim(statement, None, "not measured")
    row = found.iloc[0]
    less = Paired(row["difference"], row["difference_sd"] / math.sqrt(row["pairs"]), row["pairs"])
    difference = mean_and_deviation(row["difference"], row["difference_sd"])
    return Claim(
        statement,
        all_below([less]),
        f"{difference} nats, {seeds(row['pairs'])}; {row['budget']}, S = {row['eval_samples']}",
    )


NLL_CAPTION = (
    "Left: test NLL of each form (encoder, target) less that of the VAE of the same seed, on the same images. Bars are"
    " one standard deviation over seeds either way; where there is one seed there are none. Right: the same against the"
    " weights clipped at the end of training; the lines are VAE and IWAE."
)
GRADIENTS_CAPTION = (
    "The encoder's gradient on single test images. Left: median over parameters of |mean| / sd, with the noise floor of"
    " a gradient whose mean is zero. Right: the squared norm of the mean over the total variance, without bias. Bars"
    " are one standard error over images."
)
NOTES = [
    "No figures are published for the critic-weighted update: these are the first.",
    f"Every objective takes k = {K} decoder passes an image and step; the post has one sample. The critic's own"
    " network, of the encoder's size, comes on top. Weights are clipped at exp(0.5), and are one for the first"
    " 2,000 steps, in which the literal form too trains its encoder by the ELBO.",
    "All gradients are taken on one model, the study's VAE with the lowest seed, over the encoder's parameters,"
    f" {DRAWS:,} draws each. C(x) is no trained critic but an estimate from {BASELINE_SAMPLES:,} samples of log E w"
    " or E log w. One that is trained to the evidence with the bound ends near E log w. Without a bound C(x) only"
    " scales an image's gradient, which no ratio feels.",
    "The critic's encoder=elbo has the VAE's encoder gradient exactly; it differs in the decoder.",
    "Weights are heavy-tailed, so that mean and variance of an unbounded form rest on few draws. The literal form's"
    " mean is zero only because rare heavy samples balance the many light ones: what is left of it falls with more"
    " draws.",
]
STUDY = Study(
    name=NAME,
    target="critic",
    title="The critic-weighted update",
    claim="An update weighted by exp(log w - C(x)) needs one sample; taken literally it leaves the encoder no signal.",
    source='post "Importance-weighted update with critic", 2017',
    costs={"quick": "35 minutes on one core of an AMD EPYC, beside other work"},
    reaches={
        "quick": "13 of 3280 passes, one seed; L_500",
        "day": "40 of 3280 passes, 3 seeds; L_5000",
        "paper": "3280 passes, 3 seeds; L_5000",
    },
    sweeps=sweeps,
    find=find,
    measure=measure,
    order=9,
)
