"""Nothing is left on the CPU where a run computes on another device, and nothing is mixed (helpers/other_device.py)."""

import json
from collections.abc import Iterator
from pathlib import Path

import own_models
import problems
import pytest
import torch
from other_device import DEVICE, There, other_device
from runs import CONF, start

import evidence
from evidence.objectives import IWAE

pytestmark = pytest.mark.usefixtures("operations")

OBJECTIVES = sorted(path.stem for path in (CONF / "objective").glob("*.yaml"))
FEW = ["device=auto", "tracking=none", "trainer.steps=3", "eval.images=4"]
AIS = ["eval=ais", "eval.images=4", "eval.metrics.ais.num_temperatures=3", "eval.metrics.ais.num_chains=2"]


@pytest.fixture
def operations() -> Iterator[set[str]]:
    """Those computed on the other device."""
    with other_device() as names:
        yield names


def test_tensors_of_two_devices_are_an_error() -> None:
    there = torch.ones(3, device=DEVICE)
    assert isinstance(there, There)
    assert (there + 1).device == (there * torch.tensor(2.0)).device == there.double().device == DEVICE
    assert (there + torch.ones(3).to(DEVICE)).tolist() == [2, 2, 2]
    for mixed in (lambda: there + torch.ones(3), lambda: torch.stack([torch.ones(3), there])):
        with pytest.raises(RuntimeError, match="tensors are on two devices"):
            mixed()


@pytest.mark.parametrize(
    "words",
    [
        *([f"objective={name}"] for name in OBJECTIVES),
        ["objective=uivi", "objective/reverse_conditional=importance"],
        ["objective=uivi", "objective/reverse_conditional=learned"],
        ["objective=iwae", "model=two_layer", "eval=collapse", "eval.images=4"],
        ["objective=iwae", "eval=gradients", "eval.images=4", "eval.metrics.snr.num_draws=20"],
        ["objective=vae", "+data@eval.also.own=digits", "eval.keep_log_weights=true"],
        ["objective=iwae", *AIS],
        ["objective=sivi", *AIS],
        ["-m", "hydra/launcher=packed", "objective=critic", "seed=0,1"],
    ],
    ids=" ".join,
)
def test_a_run_trains_and_is_evaluated(words: list[str], root: Path, operations: set[str]) -> None:
    assert start(*FEW, *words) == 0
    assert {"aten.mm.default", "aten.tanh_backward.default"} & operations
    results = [json.loads(path.read_text()) for path in root.glob("outputs/*/result.json")]
    assert len(results) == 1 + ("-m" in words)
    assert all(0 < result["metrics"]["test/nll"] < 100 for result in results)


@pytest.mark.parametrize("model", ["one_layer", "two_layer"])
def test_a_trained_model_takes_images_of_the_cpu(model: str, root: Path) -> None:
    assert start(*FEW, "objective=iwae", f"model={model}") == 0
    (folder,) = root.glob("outputs/iwae*")
    run = evidence.load(folder)
    x = (torch.rand(4, 64) < 0.3).float()
    found = [
        run.sample(3),
        run.reconstruct(x),
        run.log_prob(x, num_samples=5),
        run.log_weights(x, num_samples=5),
    ]
    assert {each.device for each in (*found, *run.model.parameters())} == {DEVICE}
    assert run.encode(x).rsample(run.encode(x).noise(2)).isfinite().all()


def test_a_users_model_is_tried_there() -> None:
    model = own_models.with_layer(problems.linear_gaussian(), "posterior", "layer norm").float().to(DEVICE)
    assert own_models.tried(model, IWAE(2)) == []
