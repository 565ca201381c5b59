"""An error in a user's module keeps its cause and names the file, in one line and without Hydra's words."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import documents
import pytest
import runs

from evidence import project

OBJECTIVE = "from evidence.objectives import ELBO\nclass Flow(ELBO):\n"
CASES = {
    "a missing package": (
        "import math\nimport no_such_package\n",
        "objective._target_=myflow.Flow: myflow.py: No module named 'no_such_package' (line 2)",
    ),
    "a missing name in a package": (
        "from evidence.objectives import Elbow\n",
        "objective._target_=myflow.Flow: myflow.py: cannot import name 'Elbow' from 'evidence.objectives'",
    ),
    "no such class": (
        "class Flwo: ...\n",
        "objective._target_=myflow.Flow: myflow has no 'Flow': did you mean 'Flwo'?",
    ),
    "a syntax error": (
        "x = 1\ndef f(:\n",
        "objective._target_=myflow.Flow: myflow.py: invalid syntax (line 2)",
    ),
    "an error of its constructor": (
        f"{OBJECTIVE}    def __init__(self, k, kl):\n        raise ValueError('k is odd')\n",
        "objective._target_=myflow.Flow: myflow.py: ValueError: k is odd (line 4)",
    ),
    "a key that it does not know": (
        f"{OBJECTIVE}    def __init__(self, k):\n        super().__init__(k)\n",
        "objective._target_=myflow.Flow: TypeError: Flow.__init__() got an unexpected keyword argument 'kl'",
    ),
    "an error in a forward pass": (
        f"{OBJECTIVE}    def forward(self, model, x):\n        return x @ x\n",
        "myflow.py: RuntimeError: ",
    ),
    "a file that it lacks": (
        f"{OBJECTIVE}    def forward(self, model, x):\n        open('teacher.pt')\n",
        "myflow.py: FileNotFoundError: [Errno 2] No such file or directory: 'teacher.pt' (line 4)",
    ),
    "a service that does not answer": (
        f"{OBJECTIVE}    def forward(self, model, x):\n        raise ConnectionError('no answer')\n",
        "myflow.py: ConnectionError: no answer (line 4)",
    ),
}


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(project, "_root", tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    sys.modules.pop("myflow", None)
    return tmp_path


def said(capsys: pytest.CaptureFixture[str], *overrides: str) -> str:
    assert runs.start("objective=vae", "tracking=none", *overrides) == 1
    (line,) = runs.said(capsys)
    return line.removeprefix("evidence: ")


@pytest.mark.parametrize("case", CASES)
def test_an_error_keeps_its_cause_and_names_the_file(
    case: str, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, expected = CASES[case]
    (root / "myflow.py").write_text(source)
    line = said(capsys, "objective._target_=myflow.Flow", "objective.name=flow")
    assert line.startswith(expected)
    assert "Error locating" not in line


def test_the_file_is_that_of_the_helper_in_which_the_error_is(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "myflow.py").write_text("import myhelper\n")
    (root / "myhelper.py").write_text("import no_such_package\n")
    line = said(capsys, "objective._target_=myflow.Flow", "objective.name=flow")
    assert "myhelper.py: No module named 'no_such_package' (line 1)" in line


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("objective._target_=no_such_module.Flow", "objective"),
        ("model._target_=no_such_module.Flow", "model"),
        ("trainer.optimizer._target_=no_such_module.Flow", "trainer.optimizer"),
        ("data._target_=no_such_module.Flow", "data"),
    ],
)
def test_a_module_that_is_not_there_is_named_with_its_key(
    override: str, key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = f"{key}._target_=no_such_module.Flow: there is no module 'no_such_module' in {project.root()}"
    assert said(capsys, override).startswith(expected)


def test_another_class_of_torch_is_looked_up_as_ones_own_is(capsys: pytest.CaptureFixture[str]) -> None:
    line = said(capsys, "trainer.optimizer._target_=torch.optim.Adamw")
    assert (
        line
        == "trainer.optimizer._target_=torch.optim.Adamw: torch.optim has no 'Adamw': did you mean 'AdamW'?"
    )


EXITS = {
    "as it is made": "    def __init__(self, k, kl):\n        sys.exit('the bound fell')\n",
    "in a step": "    def forward(self, model, x):\n        sys.exit('the bound fell')\n",
    "in a later step": (
        "    def forward(self, model, x):\n        self.n = getattr(self, 'n', 0) + 1\n"
        "        if self.n > 9: sys.exit('the bound fell')\n        return super().forward(model, x)\n"
    ),
}


@pytest.mark.parametrize("launcher", ["basic", "packed", "joblib"])
@pytest.mark.parametrize("when", EXITS)
def test_a_class_that_calls_sys_exit_fails_its_own_run_and_no_other(
    when: str, launcher: str, root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    module = when.replace(" ", "_")  # a process of joblib's keeps those that it has imported
    (root / f"{module}.py").write_text(f"import sys\n{OBJECTIVE}{EXITS[when]}")
    sweep = ["-m", f"hydra/launcher={launcher}", "tracking=none", "objective=vae"]
    targets = f"objective._target_={module}.Flow,evidence.objectives.ELBO"
    assert runs.start(*sweep, targets) == 1
    said = capfd.readouterr().err
    assert "SystemExit: the bound fell (line" in said
    ends = {each.read().status for each in runs.directories(root)}
    assert ends == ({"FINISHED"} if when == "as it is made" else {"FINISHED", "FAILED"})


def test_a_signal_whose_handler_calls_sys_exit_ends_the_process(root: Path) -> None:
    """As submitit does, to have a job queued again: its run is KILLED, and the next process continues it."""
    signals = "import os, signal, sys\nsignal.signal(signal.SIGUSR2, lambda *_: sys.exit(144))\n"
    step = EXITS["in a later step"].replace(
        "sys.exit('the bound fell')", "os.kill(os.getpid(), signal.SIGUSR2)"
    )
    (root / "requeued.py").write_text(f"{signals}{OBJECTIVE}{step}")
    command = [sys.executable, str(documents.ROOT / "run.py"), *runs.SMALL, "objective=vae", "tracking=none"]
    command += [
        "objective._target_=requeued.Flow",
        f"paths.outputs={root / 'outputs'}",
        "trainer.log_every=5",
    ]
    paths = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": paths}
    assert subprocess.run(command, env=environment, capture_output=True, check=False).returncode == 144
    assert runs.only_directory(root).read().status == "KILLED"


def test_an_nll_that_no_model_can_have_is_told(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "mypoint.py").write_text(
        "from torch import nn\n"
        "from evidence.models import hierarchical\n"
        "class Point:\n"
        "    # z = 0, of log probability -1000 in place of 0\n"
        "    def __init__(self, q): self.noise, self.mean = q.noise, q.mean\n"
        "    def expectation(self, count): return 0 * self.mean\n"
        "    def rsample(self, noise): return 0 * noise * self.mean\n"
        "    def rsample_and_log_prob(self, noise): return self.rsample(noise), 0 * noise[..., 0] - 1000\n"
        "class Posterior(nn.Module):\n"
        "    def __init__(self, then):\n"
        "        super().__init__()\n"
        "        self.then = then\n"
        "    def forward(self, x): return Point(self.then(x))\n"
        "def model(mean_pixels):\n"
        "    found = hierarchical(64, [3], [[8]], 'relu', mean_pixels)\n"
        "    found.posterior = Posterior(found.posterior)\n"
        "    return found\n"
    )
    own = [
        "model._target_=mypoint.model",
        "~model.data_dim",
        "~model.latent",
        "~model.hidden",
        "~model.activation",
    ]
    assert runs.start(*own, "tracking=none") == 0
    assert runs.only_directory(root).read().metrics["test/nll"] < 0
    said = capsys.readouterr().err
    assert ": test/nll is below 0, which no model of images of 0 and 1 has" in said
    assert ": test/kl is below 0, which no divergence of two densities is" in said


def test_a_data_set_whose_function_draws_is_the_same_each_time(root: Path) -> None:
    (root / "mysplit.py").write_text(
        "import numpy as np\n"
        "from evidence import data\n"
        "def split(pixels, binarization):\n"
        "    digits = data.digits(pixels, binarization)\n"
        "    return digits._replace(test=digits.test[np.random.permutation(len(digits.test))])\n"
    )
    own = ["data._target_=mysplit.split", "tracking=none"]
    assert runs.start(*own) == 0
    first = runs.numbers(runs.only_directory(root))
    assert runs.start(*own, "eval.seed=0", "trainer.steps=60") == 0
    assert runs.numbers(runs.only_directory(root)) == first


def test_the_record_describes_the_images_that_are_scored(root: Path) -> None:
    """And not those of the data set that yours is made of."""
    (root / "myblack.py").write_text(
        "from evidence import data\n"
        "def black(pixels, binarization):\n"
        "    digits = data.digits(pixels, binarization)\n"
        "    about = {'splits': 'as the others', 'binarization': 'none', 'scored_sha256': {'test': 'c0de'}}\n"
        "    return digits._replace(test=digits.test[:7] * 0, provenance=about, label_source=None)\n"
    )
    assert runs.start("data._target_=myblack.black", "tracking=none", "eval.images=null") == 0
    described = runs.only_directory(root).read().data
    assert described["splits"] == {"train": 1397, "valid": 100, "test": 7}
    assert described["scored_sha256"]["test"] == hashlib.sha256(bytes(7 * 64)).hexdigest()
    assert described["binarization"] == "none"


def test_an_error_whose_text_is_no_text_is_recorded_all_the_same(root: Path) -> None:
    """A file's name may have any bytes, and Python reads those that are no text as \\udcff."""
    (root / "myflow.py").write_text(
        OBJECTIVE
        + EXITS["in a later step"].replace("sys.exit('the bound fell')", r"raise ValueError('d\udcffta')")
    )
    assert runs.start("objective=vae", "tracking=none", "objective._target_=myflow.Flow") == 1
    directory = runs.only_directory(root)
    record = directory.read()
    assert record is not None
    assert record.status == "FAILED"
    assert r"ValueError: d\udcffta" in (record.error or "")
    assert r"ValueError: d\udcffta" in directory.traceback.read_text()
    assert r"d\udcffta" in directory.log.read_text()
