"""The critic-weighted update beside VAE and IWAE at an equal number of decoder passes, and its encoder's gradient."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from evidence import execution
from evidence.evaluation import score
from evidence.numerics import forked_rng
from evidence.report.frame import finished
from evidence.report.judging import longest, mean_and_deviation, summary
from evidence.report.study import Budget, Claim, Findings, Picture, Study
from experiments import by_image, tables
from experiments.critic import drawing
from experiments.critic.gradients import FORMS, Baselines, encoder_moments
from experiments.provenance import here
from experiments.trained import trained

NAME = "critic"
K = 5  # decoder passes an image and step, of every objective
CRITIC = ["objective=critic", f"k={K}"]
CHOICES = [
    ["objective=vae,iwae", f"k={K}"],
    [*CRITIC, "objective.encoder=literal", "objective.target=elbo"],
    [*CRITIC, "objective.encoder=path,elbo", "objective.target=evidence,elbo"],
]
CELL = ["objective", "variant"]
ALIKE = ["length", "eval_samples", "eval_images"]  # of two runs that are compared
METRICS = ["test/nll", "test/nll_se", "test/active_units", "critic/clipped_fraction"]
ORDER = ["VAE", "IWAE", "path, evidence", "path, elbo", "elbo, evidence", "elbo, elbo", "literal, elbo"]

IMAGES: dict[Budget, int] = {"quick": 5, "day": 25, "paper": 100}  # evenly spaced test images
DRAWS = 500  # of the gradient, for each image, form and k
KS = [1, 5, 50]
BASELINE_SAMPLES = 5000
NOISE_SEED = 0
REFERENCE, LITERAL = "VAE, and encoder=elbo", "literal, unbounded"


def sweeps(budget: Budget) -> Iterator[list[str]]:
    """VAE and IWAE; the literal form with the post's target; the working forms with both targets.

    Seven runs and their gradients leave the quick budget time for two stages, 4 passes.
    """
    shorter = ["trainer.stages=2"] if budget == "quick" else []
    for choices in CHOICES:
        yield [*tables.SIDE_BY_SIDE, f"experiment={NAME}", *tables.BUDGETS[budget], *shorter, *choices]


def measure(folder: Path, budget: Budget) -> None:
    """gradients-<run>.csv: a row for each image, form and k, all on the longest VAE of the study with seed 0."""
    runs = finished(NAME)
    if runs.empty or "vae" not in set(runs["objective"]):
        return
    run = longest(runs[(runs["objective"] == "vae") & (runs["seed"] == 0)], CELL).iloc[0]
    about = {"run": run["run"], "length": run["length"], "budget": f"{run['budget']}; seed 0"}
    measure_gradients(folder / f"gradients-{run['run']}.csv", run["folder"], about, IMAGES[budget])


def measure_gradients(path: Path, home: str, about: dict[str, Any], images: int) -> None:
    """For so many test images; each is written when it is done."""
    device = execution.choose_device("auto", 0)
    parts = trained(home, device.type).parts
    model, test, origin = parts.model, parts.dataset.test, here(device)

    def rows(image: int) -> list[dict[str, object]]:
        x = test[image : image + 1].to(device, torch.get_default_dtype())
        with forked_rng(device, NOISE_SEED, image), torch.no_grad():
            weights = score(model, x, BASELINE_SAMPLES, BASELINE_SAMPLES).weights
        baselines = Baselines(weights.log_evidence.to(x.dtype), weights.elbo.to(x.dtype))
        found: list[dict[str, object]] = []
        for number, (form, make) in enumerate(FORMS.items(), 1):
            for k in KS:
                objective = make(k, baselines).to(device)
                with forked_rng(device, NOISE_SEED, image, number, k):
                    moments = encoder_moments(objective, model, x, DRAWS)
                found.append({"image": image, "form": form, "k": k, **moments._asdict(), **about, **origin})
        return found

    for image in by_image.evenly_spaced(images, len(test)):
        by_image.complete(path, [image], rows)


def find(runs: pd.DataFrame, folder: Path) -> Findings:
    """The NLL of the runs, and the gradients of the longest VAE's file."""
    trained_forms, gradients = _forms(runs), _gradients(folder)
    pictures = []
    if len(trained_forms):
        drawing.draw_nll(trained_forms, folder / "nll.png")
        pictures.append(Picture("nll.png", NLL_CAPTION))
    if len(gradients):
        drawing.draw_gradients(gradients, folder / "gradients.png")
        pictures.append(Picture("gradients.png", GRADIENTS_CAPTION))
    results = pd.concat([trained_forms, gradients], ignore_index=True)
    return Findings(results, _table(trained_forms), _claims(trained_forms, gradients), pictures, NOTES)


def _forms(runs: pd.DataFrame) -> pd.DataFrame:
    """A row for each objective and form that has finished runs, with the difference to the VAE paired by seed."""
    if runs.empty:
        return pd.DataFrame()
    chosen = longest(runs[runs["k"] == K], CELL)
    vae = chosen[chosen["objective"] == "vae"]
    rows = []
    for (objective, variant), group in chosen.groupby(CELL, sort=False):
        pairs = group.merge(vae, on=["seed", *ALIKE], suffixes=("", "_vae"))
        difference = pairs["test/nll"] - pairs["test/nll_vae"]
        paired = {"pairs": len(pairs), "difference": difference.mean(), "difference_sd": difference.std()}
        rows.append({"form": _form(objective, variant), "k": K} | summary(group, METRICS) | paired)
    results = pd.DataFrame(rows).rename(columns={"critic/clipped_fraction": "clipped_fraction"})
    return results.sort_values("form", key=lambda names: names.map(ORDER.index)).reset_index(drop=True)


def _form(objective: str, variant: str) -> str:
    """VAE, IWAE, or the critic's encoder and target."""
    if objective != "critic":
        return objective.upper()
    options = dict(option.split("=") for option in variant.split(","))
    return f"{options['encoder']}, {options['target']}"


def _gradients(folder: Path) -> pd.DataFrame:
    """Form by form and k by k, the images' mean signal-to-noise ratios with their standard errors."""
    files = [pd.read_csv(path) for path in sorted(folder.glob("gradients-*.csv"))]
    if not files:
        return pd.DataFrame()
    measured = max(files, key=lambda table: table["length"].max())
    rows = []
    for (form, k), group in measured.groupby(["form", "k"], sort=False):
        ratio = group["signal"] / group["variance"]
        first = group.iloc[0]
        origin = {name: first[name] for name in ("budget", "length", "machine", "date", "commit")}
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
                **origin,
            }
        )
    return pd.DataFrame(rows)


def _table(results: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "objective": row["form"] if row["form"] in ("VAE", "IWAE") else f"critic: {row['form']}",
            "k": row["k"],
            "NLL, nats": mean_and_deviation(row["nll"], row["nll_sd"]),
            "published": "none published",
            "less the VAE's": ""
            if row["form"] == "VAE"
            else mean_and_deviation(row["difference"], row["difference_sd"]),
            "clipped at the end": ""
            if pd.isna(row.get("clipped_fraction"))
            else f"{row['clipped_fraction']:.0%}",
            "active units": mean_and_deviation(row["active_units"], row["active_units_sd"], 0),
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
    where = f"noise alone {floor:.1e}; {vae['images'].iloc[0]} images; {vae['budget'].iloc[0]}"
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
    difference = mean_and_deviation(row["difference"], row["difference_sd"])
    return Claim(
        statement,
        bool(row["difference"] < 0),
        f"{difference} nats, {row['pairs']} seed(s); {row['budget']}, S = {row['eval_samples']}",
    )


NLL_CAPTION = (
    "Left: test NLL of each form (encoder, target) with its standard deviation over seeds, or, of one seed, its"
    " standard error over images, which are the same for all. Right: the same against the weights clipped at the end of"
    " training."
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
    "All gradients are taken on one model, the study's VAE with seed 0, over the encoder's parameters,"
    f" {DRAWS:,} draws each. C(x) is no trained critic but an estimate from {BASELINE_SAMPLES:,} samples of what it is"
    " trained to: log E w or E log w. Without a bound C(x) only scales an image's gradient, which no ratio feels.",
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
    costs={"quick": "13 minutes on two cores of an AMD EPYC"},
    sweeps=sweeps,
    find=find,
    measure=measure,
)
