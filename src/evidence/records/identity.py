"""What makes two runs the same, as hashes of all that their numbers depend on.

The train identity stands for the path that the parameters take: the settings, the seed, the content of data and
files that no checksum pins, and the record that `init_from` names. The run identity adds how long training
lasts and how its end is scored. Where a run computes, and who watches, belong to neither.
"""

import hashlib
import json
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any, NamedTuple

from evidence.config.schema import roles
from evidence.config.schema.roles import Role
from evidence.config.settings import Settings

VERSION = 3  # a record of another version is not compared: its hashes stand for something else
NOT_COMPARED = roles.paths(Settings, Role.OUTSIDE, Role.LABEL, Role.SOURCE)
END, FILES = roles.paths(Settings, Role.END), roles.paths(Settings, Role.FILES)
SOURCE = (
    "train_identity",
    "steps",
    "code",
    "data_digest",
    "mixed",
)  # what of a record `init_from` stands for


class Identity(NamedTuple):
    """Hashes of 16 hexadecimal digits, and the name of the run's folder and of its MLflow run.

    train: the path of the parameters; run: that, its length and its evaluation. cell and train_cell: the same
    without the seed. settings: what was asked for, whatever the data, the files and the source of `init_from` hold.
    """

    train: str
    run: str
    cell: str
    train_cell: str
    settings: str
    name: str


def identify(
    config: Mapping[str, Any], content: Mapping[str, str], source: Mapping[str, Any] | None
) -> Identity:
    """The identity of a resolved config.

    content: a hash by key of all that no checksum pins (`fingerprint.content`, and the data set's digest).
    source: result.json of the finished run that `init_from` names.
    """
    settings = compared(config)
    path = {**settings, "content": content, "source": None if source is None else facts(source)}
    alike = {
        **path,
        "source": None if source is None else facts(source) | {"train_identity": source["train_cell"]},
    }
    del alike["seed"]
    asked = settings | {"init_from": None if source is None else Path(config["init_from"]).name}
    run = _digest(path)
    parts = [config["objective"]["name"], f"k{config['k']}", config["model"]["name"], config["data"]["name"]]
    return Identity(
        _digest(_without(path, END)),
        run,
        _digest(_without(alike, FILES)),
        _digest(_without(alike, END)),
        _digest(asked),
        "-".join([*parts, f"s{config['seed']}", run[:6]]),
    )


def compared(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that numbers depend on. `rule` says which schedule the learning rate follows."""
    kept = _without(config, NOT_COMPARED)
    rule = "steps" if kept["trainer"].get("stages") is None else "stages"
    return kept | {"trainer": kept["trainer"] | {"rule": rule}}


def facts(source: Mapping[str, Any]) -> dict[str, Any]:
    """What of the record in a result.json a run that starts from its end depends on.

    Two mixed records can agree in all that is written of them, so each stands for itself.
    """
    found = {key: source[key] for key in SOURCE}
    return found | ({"record": source["record"]} if source["mixed"] else {})


def agree(ours: Any, theirs: Any) -> bool:
    """Whether two configs agree in every key that both have; an earlier version may lack some."""
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        return all(agree(ours[key], theirs[key]) for key in ours.keys() & theirs.keys())
    return bool(ours == theirs)


def params(config: dict[str, Any], eval_samples: int, eval_images: int) -> dict[str, str | int | float]:
    """The few flat params that comparisons read; those of a model of the user's may lack `latent_dim`."""
    trainer, latent = config["trainer"], config["model"].get("latent", 0)
    sizes = latent if isinstance(latent, list) else [latent]
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
        **({"latent_dim": sum(sizes)} if all(isinstance(size, int) for size in sizes) else {}),
        "reduction": trainer["reduction"],
        "precision": "float32",
        "eval_samples": eval_samples,
        "eval_images": eval_images,
    }


def variant(config: dict[str, Any]) -> str:
    """The objective's own options in a few words, such as `kl=analytic`, for columns that compare runs."""
    options = config["objective"]
    plain = {key: value for key, value in options.items() if not isinstance(value, dict | list)}
    return ",".join(f"{key}={value}" for key, value in plain.items() if key not in ("name", "_target_", "k"))


def _without(config: Mapping[str, Any], left_out: Set[roles.Path]) -> dict[str, Any]:
    """The config without the settings at these paths."""
    kept = {}
    for key, value in config.items():
        below = {path[1:] for path in left_out if path[0] == key}
        if () not in below:
            kept[key] = _without(value, below) if below else value
    return kept


def _digest(value: Mapping[str, Any]) -> str:
    text = json.dumps(_encoded({"version": VERSION, **value}, False), default=repr)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _encoded(value: Any, is_option: bool) -> Any:
    """For JSON, with the types of keys. A mapping that is an option of a class counts in its order, others sorted."""
    if isinstance(value, Mapping):
        is_call = "_target_" in value
        pairs = [
            [type(key).__name__, str(key), _encoded(each, is_option or is_call)]
            for key, each in value.items()
        ]
        return pairs if is_option and not is_call else sorted(pairs, key=lambda pair: pair[:2])
    return [_encoded(each, is_option) for each in value] if isinstance(value, list | tuple) else value
