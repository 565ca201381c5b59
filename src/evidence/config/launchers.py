"""Checks the launchers, which run a sweep's jobs in parallel or on other machines, and Optuna, which proposes jobs.

Each is a plugin of Hydra's that an extra installs, with a file in conf/hydra. Without these checks, a missing
plugin or a wrong setting ends in a traceback. joblib divides the cores among more processes than there are jobs.
Ray listens on every network.
"""

import importlib.util
import os
import re
import shutil
import socket
from collections.abc import Mapping
from contextlib import suppress
from logging import CRITICAL, WARNING, getLogger
from typing import Annotated, Any, Literal

from hydra._internal.utils import _locate
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from pydantic import ConfigDict, Field, ValidationError

from evidence.config import messages
from evidence.config.schema.base import Section
from evidence.config.schema.values import Count, Natural, NotNegative, Positive, Seed, Text
from evidence.errors import UserError


class _Engine(Section):
    model_config = ConfigDict(extra="allow")  # other keys of the plugin


class Jobs(_Engine):
    """conf/hydra/launcher/joblib.yaml and packed.yaml."""

    n_jobs: Count | None


class RayInit(_Engine):
    """How Ray is joined or started."""

    address: Text | None


class RayRemote(_Engine):
    """What a job needs of Ray."""

    num_cpus: Positive
    num_gpus: NotNegative


class RayParts(_Engine):
    """Both sections of Ray."""

    init: RayInit
    remote: RayRemote


class Ray(_Engine):
    """conf/hydra/launcher/ray.yaml."""

    ray: RayParts


class Submitit(_Engine):
    """conf/hydra/launcher/submitit_slurm.yaml and submitit_local.yaml."""

    submitit_folder: Text
    timeout_min: Count
    cpus_per_task: Count | None = None
    gpus_per_node: Natural | None = None
    mem_gb: Count | None = None
    max_num_timeout: Natural = 0
    array_parallelism: Count = 1
    setup: list[Text] | None = None


class Sampler(_Engine):
    """What proposes the next job."""

    seed: Seed | None = None


class Optuna(_Engine):
    """conf/hydra/sweeper/optuna.yaml."""

    sampler: Sampler
    n_trials: Count
    n_jobs: Count
    direction: Literal["minimize", "maximize"]
    max_failure_rate: Annotated[float, Field(ge=0, le=1)]
    storage: None  # Optuna 2 cannot use one with the SQLAlchemy that MLflow wants


JOBLIB, RAY, SUBMITIT = "hydra_joblib_launcher", "hydra_ray_launcher", "hydra_submitit_launcher"
OPTUNA, PACKED = "hydra_optuna_sweeper", "evidence_packed"
PLUGINS: dict[str, type[_Engine]] = {  # by their package in hydra_plugins
    JOBLIB: Jobs,
    RAY: Ray,
    SUBMITIT: Submitit,
    OPTUNA: Optuna,
    PACKED: Jobs,
}


def prepare(kind: str, choice: str, config: Mapping[str, Any]) -> None:
    """Check the launcher or sweeper hydra/`kind`=`choice`, and prepare for it.

    Raises: UserError where it is not installed, or cannot do what `config` says.
    """
    package = _package(config)
    if package not in PLUGINS:
        _check_class(kind, str(config["_target_"]))
        return
    if importlib.util.find_spec(f"hydra_plugins.{package}") is None:  # its extra is named as what it runs
        raise UserError(
            f"hydra/{kind}={choice} needs another package: pip install {package.replace('_', '-')}"
        )
    try:
        PLUGINS[package].model_validate(config)
    except ValidationError as error:
        raise UserError(f"hydra.{kind}.{messages.invalid(error, dict(config))}") from None
    if config["_target_"].endswith(".SlurmLauncher") and shutil.which("srun") is None:
        raise UserError(f"hydra/{kind}={choice}: no srun here; start the sweep where SLURM's commands are")
    if package == RAY:
        _find_ray(config["ray"]["init"]["address"] or os.environ.get("RAY_ADDRESS"))
    if package == OPTUNA:
        getLogger("optuna.storages").setLevel(WARNING)  # they log every new study
        getLogger("hydra_plugins.hydra_optuna_sweeper").setLevel(CRITICAL)  # a failed job reports itself


def at_a_time(launcher: Mapping[str, Any], num_jobs: int, device: str) -> int:
    """How many of `num_jobs` jobs run at a time, as far as this machine can tell."""
    package = _package(launcher)
    if package == SUBMITIT:
        most = launcher.get("array_parallelism", num_jobs)
    elif package in (JOBLIB, RAY):
        from joblib import cpu_count

        cores = cpu_count()  # that this process may use
        if package == RAY:
            most = int(cores / launcher["ray"]["remote"]["num_cpus"])
        else:
            most = min(cores, launcher["n_jobs"] or _num_gpus(device) or cores)
    else:
        most = 1
    return max(1, min(most, num_jobs))


def is_packed(launcher: Mapping[str, Any], device: str, is_free: bool) -> bool:
    """Whether jobs train together: as it was chosen, or where the choice `is_free` and there is a GPU."""
    return _package(launcher) == PACKED or (is_free and _num_gpus(device) > 0)


def overrides(launcher: Mapping[str, Any], parallel: int, is_packed: bool) -> list[str]:
    """Overrides for Hydra: joblib divides the cores by the number of jobs at a time."""
    if is_packed and _package(launcher) != PACKED:
        return ["hydra/launcher=packed"]
    return [f"hydra.launcher.n_jobs={parallel}"] if _package(launcher) == JOBLIB else []


def _package(config: Mapping[str, Any]) -> str:
    """hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher -> hydra_joblib_launcher."""
    return str(config["_target_"]).rpartition("hydra_plugins.")[2].partition(".")[0]


def _check_class(kind: str, target: str) -> None:
    base: type = {"launcher": Launcher, "sweeper": Sweeper}[kind]
    found = None
    with suppress(Exception):  # its module may raise anything
        found = _locate(target)
    if not (isinstance(found, type) and issubclass(found, base)):
        raise UserError(f"hydra.{kind}._target_={target}: must be the full name of a {kind} of Hydra's")


def _find_ray(address: str | None) -> None:
    """Connect to a cluster's address once, where Ray would try for minutes. A Ray of our own stays on 127.0.0.1."""
    if address is None:
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    elif match := re.fullmatch(r"([\w.-]+):(\d{1,5})", address):
        try:
            socket.create_connection((match[1], int(match[2])), timeout=5).close()
        except OSError as error:
            raise UserError(f"no Ray answers at {address}: {error.strerror or error}") from None


def _num_gpus(device: str) -> int:
    import torch

    return 0 if device == "cpu" else torch.cuda.device_count()
