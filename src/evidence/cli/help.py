"""Writes what `python run.py --help` prints. It reads conf/ and imports nothing slow."""

import re
import shutil
import sys
import textwrap
from pathlib import Path

WIDTH = 110  # of a line at most
_TEXT = """\
Trains a variational autoencoder on images and measures its log-likelihood. The result is the test negative
log-likelihood in nats (lower is better) with its standard error, and the number of active units.

  python run.py [group=choice ...] [key=value ...]          one run
  python run.py -m objective=vae,iwae k=1,5 [...]           a sweep: one run for every combination

Commands to copy
  python run.py objective=vae trainer=smoke eval=smoke      a few seconds, to see that everything works
  python run.py                                             the IWAE, k=50, on MNIST: some minutes
  python run.py objective=uivi data=mnist_fixed             another objective, with the model that suits it
  python run.py -m objective=vae,iwae k=1,5 seed=0,1        eight runs; `mlflow ui` compares them
  python run.py -m hydra/launcher=joblib seed=0,1,2,3       four runs side by side on this machine
  python run.py -m hydra/sweeper=optuna 'k=int(interval(1,9))'    a search for the lowest valid/nll
  python run.py objective=critic --cfg job --resolve        shows every key with its value, and runs nothing

Groups and their choices (* is the default; an objective may bring its own model and trainer)
{groups}

Keys that matter most (all of them: --cfg job)
  k=5                            samples per image; each objective brings its own
  seed=1                         of the weights, the batches and the noise
  device=auto                    auto, cpu or cuda
  compile=auto                   auto, true or false: fuse a step's operations where that pays
  name=evidence                  the MLflow experiment that the run belongs to
  tags.paper=draft               a tag of the run in MLflow, of your own
  trainer.stages=3               stages of 1, 3, 9, ... passes, each at a lower learning rate; or instead
  trainer.stages=null trainer.steps=5000                    a number of steps
  trainer.batch_size=20          images in a step
  trainer.learning_rate=0.001    of the first stage
  trainer.validate_every=1       passes between two values of valid/nll; auto, or null for ends of stages only
  model.latent=[50]              sizes of the stochastic layers (one number for explicit and semi_implicit)
  model.hidden=[[200,200]]       sizes of the deterministic layers below each of them
  eval.samples=5000              S of the estimate L_S of log p(x): as in the paper, ten times the default
  eval.images=1000               test images scored, evenly spaced; null for all
  eval.keep_log_weights=true     keep the log-weights [S, images] as log_weights.npz in the run's folder
  paths.data=data                where the data sets are kept (or set EVIDENCE_DATA)
  paths.outputs=outputs          where each run leaves its folder
  init_from=<folder's name>      start from that finished run's model and its optimiser's state

The same command, typed again, shows a finished run's result or continues an interrupted run
  plan=true                      run nothing: print each job, whether it is done, and how long it takes
  fail_fast=true                 begin no further job of a sweep once one has failed
  rerun=true                     compute again, into a new record, what other code has computed
  other_code=true                go on with a run that other code has begun
  report --experiment NAME       run nothing: write table, curves and figures of the runs with this name=
  sync=true                      run nothing: deliver to MLflow what it lacks (all: tracking=none too)

A wrong command line ends with one line that says what to write instead. HYDRA_FULL_ERROR=1 shows tracebacks.
Hydra reads the command line: --hydra-help lists its own flags."""


def help_text(conf: Path) -> str:
    """The help, with the groups and choices in the folder `conf`, as wide as the terminal and at most WIDTH."""
    config = _text(conf / "config.yaml")
    defaults = dict(re.findall(r"^  - (\w+): (\w+)$", config, re.MULTILINE))
    order = ["objective", *defaults, *sorted(folder.name for folder in conf.iterdir() if folder.is_dir())]
    groups = [group for group in dict.fromkeys(order) if any((conf / group).glob("*.yaml"))]
    groups += ["hydra/launcher", "hydra/sweeper"]
    text = _TEXT if Path(sys.argv[0]).name == "run.py" else _TEXT.replace("python run.py", "evidence     ")
    return text.format(groups="\n".join(_group(conf, group, defaults.get(group)) for group in groups))


def _group(conf: Path, group: str, default: str | None) -> str:
    width = max(60, min(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns))
    lines = [f"  {group}"]
    for file in sorted((conf / group).glob("*.yaml")):
        name = f"   {'*' if file.stem == default else ' '} {file.stem:<15} "
        purpose = textwrap.fill(_purpose(file), width, initial_indent=name, subsequent_indent=" " * len(name))
        lines.append(purpose or name.rstrip())
    return "\n".join(lines)


def _purpose(file: Path) -> str:
    """The comment that a config file opens with."""
    opening = re.match(r"(?:# @package.*\n)?((?:#.*\n)*)", _text(file))
    assert opening is not None  # it matches nothing too
    return " ".join(line.lstrip("# ") for line in opening[1].splitlines())


def _text(file: Path) -> str:
    """The file's text, also where it is not UTF-8: the help has to say something all the same."""
    return file.read_text(encoding="utf-8", errors="replace")
