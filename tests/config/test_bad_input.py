"""A wrong command line ends in one line that names the key and what it must be, and leaves nothing behind."""

import shutil
import sys
from pathlib import Path

import pytest

from evidence.cli.command_line import main

ROOT = Path(__file__).resolve().parents[2]

WRONG_VALUES = [  # what is typed, and what the line must say
    ("k=0", "k=0: must be at least 1"),
    ("k=-3", "k=-3: must be at least 1"),
    ("k=abc", "k=abc: must be a whole number"),
    ("k=1.5", "k=1.5: must be a whole number"),
    ("k=1e3", "k=1e3: must be a whole number: 1000"),
    ("k=true", "k=true: must be a whole number"),
    ("k=", "k=: must be a whole number"),
    ("k=null", "k=null: must be a whole number"),
    ("k=[1]", "k=[1]: must be a whole number"),
    ("k=2000000", "k=2000000: must be at most 1000000"),
    ("k=???", "k: needs a value"),
    ("k=${nope}", "k: Interpolation key 'nope' not found"),
    ("objective.k=3", "objective.k=3: must be k=50, which it follows"),
    ("objective.num_exact=some", "objective.num_exact=some: must be a whole number"),
    ("objective.num_exact=-1", "objective.num_exact=-1: must be at least 0"),
    ("objective=3", "unknown choice 'objective=3'. Choices: ciwae, critic, dreg,"),
    ("objective=null", "unknown choice 'objective=null'. Choices: ciwae, critic, dreg,"),
    ("objective=", "unknown choice 'objective='. Choices: ciwae, critic, dreg,"),
    ("objective=[vae,iwae]", "unknown choice 'objective=[vae,iwae]'"),
    ("objective=iwea", "did you mean 'objective=iwae'? Choices: ciwae, critic, dreg, iwae, miwae, piwae,"),
    ("data=minst", "did you mean 'data=mnist'? Choices: digits,"),
    ("hydra/launcher=basci", "did you mean 'hydra/launcher=basic'?"),
    ("seed=-1", "seed=-1: must be at least 0"),
    (f"seed={2**63}", "must be below 9223372036854775808"),
    ("device=cdua", "device=cdua: must be one of auto, cpu, cuda (did you mean 'cuda'?)"),
    ("name=", "name=: must be a name: not empty"),
    ("name=a/b", "name=a/b: must be a name"),
    ("name=..", "name=..: must be a name"),
    ("name=2024", "name=2024: must be text"),
    ("paths.outputs=", "paths.outputs=: must be text, not empty"),
    ("data.pixels=100", "data.pixels=100: must be 784"),
    ("model.data_dim=64", "model.data_dim=64: must be data.pixels=784"),
    ("model.latent=50", "model.latent=50: must be a list, such as [200,200]"),
    ("model.latent=[]", "model.latent=[]: must be a list of at least 1"),
    ("model.latent=[0]", "model.latent[0]=0: must be at least 1"),
    ("model.latent=[50,20]", "model.hidden: 1 lists for the 2 layers of model.latent"),
    ("model.activation=tahn", "must be one of tanh, relu (did you mean 'tanh'?)"),
    ("model=3", "unknown choice 'model=3'. Choices: explicit, one_layer, semi_implicit, two_layer"),
    ("trainer.stages=0", "trainer.stages=0: must be at least 1"),
    ("trainer.steps=100", "trainer.stages=3 and trainer.steps=100: give exactly one"),
    ("trainer.stages=null", "trainer.stages and trainer.steps are both null: give exactly one"),
    ("trainer.decay=0.5", "trainer.decay and trainer.decay_every: give both"),
    ("trainer.decay=0.5 trainer.decay_every=10", "trainer.decay goes with trainer.steps only"),
    ("trainer.learning_rate=0", "trainer.learning_rate=0: must be above 0"),
    ("trainer.learning_rate=inf", "trainer.learning_rate=inf: must be a finite number"),
    ("trainer.learning_rate=123E456", "trainer.learning_rate=123E456: must be a finite number"),
    ("trainer.learning_rate=nan", "trainer.learning_rate=nan: must be a finite number"),
    ("trainer.optimizer.betas=[0.9,1.0]", "trainer.optimizer.betas[1]=1.0: must be below 1"),
    ("trainer.optimizer.betas=[0.9]", "trainer.optimizer.betas=[0.9]: must be a list of at least 2"),
    ("trainer.optimizer.eps=0", "trainer.optimizer.eps=0: must be above 0"),
    ("trainer.optimizer.fused=1", "trainer.optimizer.fused=1: must be true or false"),
    ("trainer.optimizer=adam", "trainer.optimizer=adam: must be a section"),
    ("trainer.batch_size=0", "trainer.batch_size=0: must be at least 1"),
    ("trainer.reduction=max", "trainer.reduction=max: must be one of sum, mean"),
    ("eval.samples=0", "eval.samples=0: must be at least 1"),
    ("eval.rows=0", "eval.rows=0: must be at least 1"),
    ("eval.images=1", "eval.images=1: must be at least 2"),
    ("tracking.name=wandb", "tracking.name=wandb: must be one of mlflow, none"),
    (
        "model=one_layer objective=uivi",
        "objective=uivi needs a semi-implicit posterior, and model=one_layer has none",
    ),
    ("model=explicit objective=sivi", "choose model=semi_implicit (or objective=vae, "),
    ("model=semi_implicit", "objective=iwae needs a posterior with a density"),
    ("model=semi_implicit objective=critic", "choose model=one_layer, two_layer or explicit"),
    (
        "objective=rws k=1",
        "k=1: objective=rws needs k=2 or more, since the mean of its wake-phase gradient is zero",
    ),
    ("objective=rws_dreg k=1", "k=1: objective=rws_dreg needs k=2 or more"),
    ("objective=tvo k=1", "k=1: objective=tvo needs k=2 or more"),
    (
        "objective=miwae k=9 objective.groups=2",
        "objective.groups=2: must divide k=9; choose one of 1, 3, 9",
    ),
    ("compile=yes", "compile=yes: must be true, false or auto"),
    ("sync=All", "sync=All: must be true, false or all"),
    ("objective=vr_iwae objective.alpha=1", "objective.alpha=1: must be at most 0.9999"),
    (
        "objective/reverse_conditional=hmc",
        "objective/reverse_conditional: not every objective has this group",
    ),
    (
        "objective=uivi objective/reverse_conditional=learnd",
        "did you mean 'objective/reverse_conditional=learned'?",
    ),
    ("objective=vae objective.kl=exact", "objective.kl=exact: must be one of sampled, analytic"),
    ("objective=vae model=two_layer objective.kl=analytic", "needs one stochastic layer"),
    ("objective=critic objective.bound=0", "objective.bound=0: must be above 0, or null (clipped at"),
    ("objective=critic objective.warmup=-1", "objective.warmup=-1: must be at least 0"),
    ("objective=critic objective.critic.data_dim=3", "objective.critic.data_dim=3: must be data.pixels=784"),
    ("objective=uivi model.scale=1e-9", "model.scale=1e-9: must be above model.scale_floor=1e-05"),
    ("objective=uivi model.hidden=[]", "model.hidden=[]: must be a list of at least 1"),
    (
        "objective=uivi objective.reverse_conditional.target_acceptance=1",
        "objective.reverse_conditional.target_acceptance=1: must be below 1",
    ),
]

UNKNOWN_KEYS = [
    (
        "objectve=iwae",
        "unknown key 'objectve': did you mean 'objective'? Keys: k, seed, device, precision, compile,",
    ),
    (
        "trainer.batchsize=3",
        "unknown key 'trainer.batchsize': did you mean 'trainer.batch_size'? Keys: trainer.",
    ),
    ("+trainer.batchsize=3", "unknown key 'trainer.batchsize': did you mean 'trainer.batch_size'?"),
    ("trainr.batch_size=3", "did you mean 'trainer.batch_size'? Keys: k,"),
    ("batch_size=3", "unknown key 'batch_size': did you mean 'trainer.batch_size'?"),
    ("objective.learning_rate=1", "did you mean 'trainer.learning_rate'? Keys: objective."),
    ("trainer.optimizer.lr=1", "unknown key 'trainer.optimizer.lr'. Keys: trainer.optimizer."),
    ("objective=critic objective.critic.hiden=[3]", "did you mean 'objective.critic.hidden'?"),
    ("objective=critic ++objective.critic.hiden=[3]", "did you mean 'objective.critic.hidden'?"),
    ("objective=uivi objective.kl=sampled", "unknown key 'objective.kl'"),
    (
        "objective.backward=top",
        "objective.backward is a key of an earlier version: write objective.num_exact=null",
    ),
    (
        "+objective.m=4",
        "objective.m is a key of an earlier version: write objective.num_exact=null (was backward=",
    ),
    (
        "objective.num_exact=0 ~objective.num_exact +objective.backward=all",
        "objective.backward is a key of an earlier version",
    ),
    (
        "-m objective.backward=all,top",
        "write objective.num_exact=null (was backward=all), 0 (was sampled), or m,",
    ),
    ("objective=vae objective.m=4", "unknown key 'objective.m'"),
    ("k.x=3", "unknown key 'k.x'"),
    ("+foo=1", "unknown key 'foo'. Keys: k,"),
    ("+foo.bar=1", "unknown key 'foo'. Keys: k,"),
    ("data@foo=mnist", "unknown key 'data@foo'"),
    ("hydra.lancher=1", "did you mean 'hydra.launcher'?"),
    ("~foo", "unknown key 'foo'"),
    ("~k", "k: needs a value"),
    ("~objective", "objective: needs a value"),
    ("~eval.images", "eval.images=null cannot be deleted so: it has no value already"),
    ("~init_from", "init_from=null cannot be deleted so: it has no value already"),
    ("tags=null", "tags=null: must be a section with keys of its own, such as {}"),
    ("objective._target_=mine.X objective.k=7", "objective.k=7: must be k=50: write k: ${k} in its file"),
    ("~data", "data: needs a value"),
    ("~trainer.reduction", "trainer.reduction: needs a value"),
    ("experimnt=x", "unknown key 'experimnt'"),
]

MALFORMED = [
    ("k", "cannot read 'k': write key=value"),
    ("=3", "cannot read '=3': write key=value"),
    ("[", "cannot read '[': write key=value"),
    ("k=[1", "cannot read 'k=[1': write key=value"),
    ("name=a\nb(", "cannot read 'name=a b(': write key=value"),
    ("+k=3", "An item is already at 'k'"),
    ("k=1,5", "k=1,5: more than one value; use -m to sweep over them"),
    ("k=range(1,4)", "k=range(1,4): more than one value; use -m"),
    ("--foo", "unknown flag '--foo'"),
    ("--k=3", "unknown flag '--k=3': did you mean 'k=3'?"),
    ("--multrun k=1,5", "unknown flag '--multrun': did you mean '--multirun'?"),
    ("--cfg=jobs", "argument --cfg/-c: invalid choice: 'jobs'"),
    ("name=a=b", "a value with '=' in it goes in quotes, which the shell must leave alone: \"name='a=b'\""),
    ("name=a#b", "a value with '#' in it goes in quotes"),
    ("name=größe", "a value with 'ö' in it goes in quotes"),
    ("name=[a=b]", "a value with '=' in it goes in quotes"),
    ("name=f(x)", "a value with '(' in it goes in quotes"),
    ('name="a', "a value with '\"' in it goes in quotes"),
    ("kü=3", "a key has no 'ü'"),
    ("+experiment=critic", "experiment has a choice already, which experiment=critic replaces"),
    ("+experiment=", "unknown choice 'experiment='. Choices: critic"),
    ("trainer=papper trainer=smoke", "unknown choice 'trainer=papper': did you mean 'trainer=paper'?"),
    ("-m trainer=smoke,papper k=1,2 trainer=smoke", "unknown choice 'trainer=papper'"),
    ("--resolve", "--resolve goes with --cfg"),
    ("--package=objective", "--package goes with --cfg"),
    ("--package", "--package/-p: expected one argument"),
    ("--cfg=job --package=objectve", "--package: unknown key 'objectve': did you mean 'objective'?"),
    ("--shell-completion", "--shell-completion: needs one of install=,"),
    ("--experimental-rerun=x", "--experimental-rerun: type the same command again"),
    ("--config-name=", "--config-name: needs a name"),
    ("--config-dir=", "--config-dir=: there is no such folder"),
    ("-m --run", "--run, --multirun, --cfg, --info and --shell-completion exclude one another"),
    ("-m --cfg=job", "--run, --multirun, --cfg, --info and --shell-completion exclude one another"),
    ("--cfg=job objectve=iwae", "unknown key 'objectve'"),
    ("--cfg=job --resolve k=${nope}", "k: Interpolation key 'nope' not found"),
    ("--config-dir=nowhere k=1", "nowhere"),
]

SWEEPS = [
    ("-m objective=vae,iwae k=1,0", "job 'objective=vae k=0': k=0: must be at least 1"),
    ("k=1 -m seed=0,x", "job 'k=1 seed=x': seed=x: must be a whole number"),
    ("-m objective=vae,iwea", "job 'objective=iwea': unknown choice 'objective=iwea': did you mean"),
    (
        "-m objective=glob(*) model=one_layer,two_layer",
        "job 'objective=sivi model=one_layer': objective=sivi needs",
    ),
    ("-m k=range(0,3)", "job 'k=0': k=0: must be at least 1"),
    ("-m k=range(0,0)", "k=range(0,0): has no value"),
    ("-m objective=glob(z*) k=1,5", "objective=glob(z*): has no value. Choices: ciwae, critic, dreg"),
    (
        "-m objective=uivi,sivi model.noise=20",
        "where only a swept choice brings it, write model.noise=choice(...)",
    ),
    ("-m k=interval(1,3)", "an interval is for a search: add hydra/sweeper=optuna"),
    ("-m hydra/launcher=basic,other", "Hydra's own settings take one value"),
    ("hydra.mode=MULTIRUN k=1,0", "job 'k=0': k=0: must be at least 1"),
]


@pytest.mark.parametrize(("typed", "said"), [*WRONG_VALUES, *UNKNOWN_KEYS, *MALFORMED, *SWEEPS])
def test_says_what_is_wrong_in_one_line(
    typed: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["run.py"])
    monkeypatch.setitem(sys.modules, "evidence.runs.lifecycle", None)  # a job that starts all the same fails
    status = main(typed.split(" "), ROOT / "conf")
    printed = capsys.readouterr()
    assert printed.out == ""
    assert said in printed.err
    assert printed.err.startswith("evidence: ")
    assert printed.err.count("\n") == 1
    assert status == 2
    assert not list(tmp_path.iterdir())


def test_broken_config_file_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    (tmp_path / "conf" / "objective" / "mine.yaml").write_text("name: [mine\n")
    assert main(["objective=mine"], tmp_path / "conf") == 2
    said = capsys.readouterr().err
    assert "mine.yaml" in said
    assert said.count("\n") == 1


def test_a_config_file_that_is_not_utf8_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Wherever it lies. The help says what it can."""
    conf, more = shutil.copytree(ROOT / "conf", tmp_path / "conf"), tmp_path / "more"
    for folder in (conf, more):
        file = folder / "trainer" / "latin.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes("# Größe.\nname: x\n".encode("latin-1"))
        assert main(["trainer=latin", f"--config-dir={more if folder == more else conf}"], conf) == 2
        assert capsys.readouterr().err == f"evidence: {file} is not UTF-8 (byte 0xf6): save it as UTF-8\n"
        assert main(["--help"], conf) == 0
        assert ("latin           Gr" in capsys.readouterr().out) == (folder == conf)
        file.unlink()


@pytest.mark.parametrize(
    "override", ["", "defaults: [override /objective: vae]\n", "defaults: [/objective: iwae]\n"]
)
def test_an_experiment_without_its_first_line_is_told(
    override: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(f"{override}k: 5\n")
    assert main(["experiment=mine", f"--config-dir={tmp_path}"], ROOT / "conf") == 2
    said = capsys.readouterr().err
    assert "its file must begin with the line '# @package _global_'" in said
    assert said.count("\n") == 1


def test_full_error_adds_the_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    assert main(["objectve=iwae"], ROOT / "conf") == 2
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert said.splitlines()[-1].startswith("evidence: unknown key 'objectve'")
