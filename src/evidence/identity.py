"""What makes two runs the same, as hashes of the settings that their numbers depend on.

The train identity is all that shapes the path of the parameters but how far it is followed; the run identity adds
how far, and how the end is scored. Where a run computes, and who watches, belong to neither.
"""

import copy
import hashlib
import json
from typing import Any, NamedTuple

LENGTH = ("stages", "steps")
BYSTANDERS = {
    "top": (
        "device",
        "compile",
        "name",
        "paths",
        "tracking",
        "rerun",
        "other_code",
        "plan",
        "fail_fast",
        "sync",
    ),
    "data": ("folder",),
    "trainer": ("name", "log_every", "checkpoint_seconds"),
    "eval": ("name",),
}


class Identity(NamedTuple):
    """Hexadecimal hashes, and the run's readable name, which is that of its folder and its MLflow run."""

    train: str
    run: str
    name: str


def identify(config: dict[str, Any], start: tuple[str, int] | None) -> Identity:
    """The identity of a resolved config; `start` is the train identity and the step that `init_from` stands for."""
    core = copy.deepcopy({key: value for key, value in config.items() if key not in BYSTANDERS["top"]})
    for section in ("data", "trainer", "eval"):
        for key in BYSTANDERS[section]:
            core[section].pop(key, None)
    core["init_from"] = start
    run = _digest(core)
    core.pop("eval")
    for key in LENGTH:
        core["trainer"].pop(key, None)
    train = _digest(core)
    parts = [config["objective"]["name"], f"k{config['k']}", config["model"]["name"], config["data"]["name"]]
    return Identity(train, run, "-".join([*parts, f"s{config['seed']}", run[:6]]))


def params(config: dict[str, Any], eval_samples: int, eval_images: int) -> dict[str, str | int | float]:
    """The few flat params that tell runs apart in a comparison."""
    trainer, latent = config["trainer"], config["model"].get("latent", 0)
    return {
        "objective": config["objective"]["name"],
        "variant": variant(config),
        "k": config["k"],
        "model": config["model"]["name"],
        "data": config["data"]["name"],
        "seed": config["seed"],
        "trainer": trainer["name"],
        "stages": f"{trainer['steps']} steps" if trainer["stages"] is None else trainer["stages"],
        "batch_size": trainer["batch_size"],
        "latent_dim": sum(latent) if isinstance(latent, list) else latent,
        "reduction": trainer["reduction"],
        "precision": "float32",
        "eval_samples": eval_samples,
        "eval_images": eval_images,
    }


def variant(config: dict[str, Any]) -> str:
    """The objective's own options in a few words, such as `backward=sampled`, for columns that compare runs."""
    options = config["objective"]
    plain = {key: value for key, value in options.items() if not isinstance(value, dict | list)}
    return ",".join(f"{key}={value}" for key, value in plain.items() if key not in ("name", "_target_", "k"))


def _digest(value: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
