"""Computes a run's identity: hashes of all that the run's numbers depend on.

The train identity covers the path that the parameters take. It is made of the settings, the seed, the content of
data and files that no checksum pins, and the record that `init_from` names. The run identity adds the length of
training and how its end is scored. It does not matter where a run computes, or what records it.
"""

import hashlib
import json
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any, NamedTuple

from evidence.config.schema import roles
from evidence.config.schema.roles import Role
from evidence.config.settings import Settings
from evidence.passwords import masked_values

VERSION = 4  # a record of another version is not compared: its hashes cover other things
NOT_COMPARED = roles.paths(Settings, Role.OUTSIDE, Role.LABEL, Role.SOURCE)
END, FILES = roles.paths(Settings, Role.END), roles.paths(Settings, Role.FILES)
FORMED = "model", "objective", "trainer"  # the sections whose floats do not matter to the form
SOURCE = (  # the entries of a record that count where `init_from` names it
    "train_identity",
    "steps",
    "code",
    "data_digest",
    "mixed",
)


class Identity(NamedTuple):
    """Hashes of 16 hexadecimal digits, and the name of the run's folder and of its MLflow run.

    train: the path of the parameters.
    run: the path, its length and its evaluation.
    cell, train_cell: the same two without the seed.
    form: the same as train_cell without the floats of model, objective and trainer.
    settings: what was asked for, whatever the data, the files and the source of `init_from` contain.
    """

    train: str
    run: str
    cell: str
    train_cell: str
    form: str
    settings: str
    name: str


def identify(
    config: Mapping[str, Any], content: Mapping[str, str], source: Mapping[str, Any] | None
) -> Identity:
    """The identity of a resolved config.

    content: a hash by key of all that no checksum pins (`provenance.content`, and the data set's digest). That of
      `eval` matters to no training.
    source: result.json of the finished run that `init_from` names.
    """
    settings = compared(config)
    path = {**settings, "content": content, "source": None if source is None else facts(source)}
    alike = {
        **path,
        "source": None if source is None else facts(source) | {"train_identity": source["train_cell"]},
    }
    del alike["seed"]
    run = _digest(path)
    parts = [config["objective"]["name"], f"k{config['k']}", config["model"]["name"], config["data"]["name"]]
    return Identity(
        _digest(_of_training(path)),
        run,
        _digest(_without(alike, FILES)),
        _digest(_of_training(alike)),
        _digest(_formed(_of_training(alike))),
        settings_identity(config),
        "-".join([*parts, f"s{config['seed']}", run[:6]]),
    )


def settings_identity(config: Mapping[str, Any]) -> str:
    """A hash of what was asked for. Addresses count without their passwords, which config.yaml does not have."""
    source = config["init_from"]
    asked = masked_values(compared(config)) | {"init_from": None if source is None else Path(source).name}
    return _digest(asked)


def compared(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that numbers depend on. `rule` says which schedule the learning rate follows."""
    kept = _without(config, NOT_COMPARED)
    rule = "steps" if kept["trainer"].get("stages") is None else "stages"
    scored = {key: value for key, value in kept["eval"].items() if key not in ("metrics", "also") or value}
    if "also" in scored:
        scored["also"] = {name: _without(each, {("folder",)}) for name, each in scored["also"].items()}
    return kept | {"trainer": kept["trainer"] | {"rule": rule}, "eval": scored}


def facts(source: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of `source`, a result.json, that matter to a run that starts from its end.

    Two mixed records can agree in all these entries. So of a mixed record its own number counts too.
    """
    found = {key: source[key] for key in SOURCE}
    return found | ({"record": source["record"]} if source["mixed"] else {})


def settings_form(config: Mapping[str, Any]) -> str:
    """Equal for configs that differ in the seed, in floats, and in what does not matter to the path."""
    return _digest(_formed(_without(compared(config), END)))


def agree(ours: Any, theirs: Any) -> bool:
    """Whether two configs agree in every key that both have. That of an earlier version may lack some."""
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        return all(agree(ours[key], theirs[key]) for key in ours.keys() & theirs.keys())
    return bool(ours == theirs)


def params(config: dict[str, Any], eval_samples: int, eval_images: int) -> dict[str, str | int | float]:
    """The few flat params that comparisons read. A user's own model may have no `latent_dim`."""
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
        "precision": config["precision"],
        "eval_samples": eval_samples,
        "eval_images": eval_images,
    }


def variant(config: dict[str, Any]) -> str:
    """The objective's own options as short text, such as `kl=analytic`, for columns that compare runs."""
    options = config["objective"]
    plain = {key: value for key, value in options.items() if not isinstance(value, dict | list)}
    return ",".join(f"{key}={value}" for key, value in plain.items() if key not in ("name", "_target_", "k"))


def _of_training(path: Mapping[str, Any]) -> dict[str, Any]:
    """What the path of the parameters depends on."""
    content = {key: value for key, value in path["content"].items() if not key.startswith("eval.")}
    return _without(path, END) | {"content": content}


def _without(config: Mapping[str, Any], left_out: Set[roles.Path]) -> dict[str, Any]:
    """The config without the settings at these paths."""
    kept = {}
    for key, value in config.items():
        below = {path[1:] for path in left_out if path[0] == key}
        if () not in below:
            kept[key] = _without(value, below) if below else value
    return kept


def _formed(path: Mapping[str, Any]) -> dict[str, Any]:
    """The settings without the seed and without the floats of the sections that may differ in them."""
    return {key: _form(value) if key in FORMED else value for key, value in path.items() if key != "seed"}


def _form(value: Any) -> Any:
    """The value without what its floats are."""
    if isinstance(value, Mapping):
        return {key: _form(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_form(each) for each in value]
    return "float" if isinstance(value, float) else value


def _digest(value: Mapping[str, Any]) -> str:
    text = json.dumps(_encoded({"version": VERSION, **value}, False), default=repr)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _encoded(value: Any, is_option: bool) -> Any:
    """The value for JSON, with the types of keys.

    A mapping that is an argument of a class keeps its order. Other mappings are sorted.
    """
    if isinstance(value, Mapping):
        is_call = "_target_" in value
        pairs = [
            [type(key).__name__, str(key), _encoded(each, is_option or is_call)]
            for key, each in value.items()
        ]
        return pairs if is_option and not is_call else sorted(pairs, key=lambda pair: pair[:2])
    return [_encoded(each, is_option) for each in value] if isinstance(value, list | tuple) else value
