"""Turns a command line into the settings of each of its jobs, before Hydra runs any of them.

Hydra would report most mistakes too, but in several lines, one job at a time, and after the first jobs have run.
Here everything is composed and validated first. Whatever is wrong becomes one UserError.
"""

import argparse
import contextlib
import math
import re
import warnings
from collections.abc import Callable, Iterable
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple, cast

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Override
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from evidence.config import launchers, messages, search, store_address, typed
from evidence.config.flags import read_arguments as read_arguments
from evidence.config.flags import shown
from evidence.config.job_context import searches
from evidence.config.loader import opened
from evidence.config.overrides import is_choice, parse
from evidence.config.settings import Settings, validate
from evidence.errors import UserError

MAX_JOBS = 10_000  # of a sweep; each is composed before the first begins
SEARCH_PATH = "hydra.searchpath"


class Job(NamedTuple):
    """One job of a command line."""

    overrides: list[str]
    settings: Settings


class Request(NamedTuple):
    """What a command line asks for. A search chooses its jobs as it goes, so `jobs` has one that it may propose.

    folder: where the jobs of a sweep leave notes, below the root.
    parallel: how many jobs run at a time.
    is_packed: whether they train together.
    launcher_overrides: overrides that give the launcher this number.
    """

    jobs: list[Job]
    is_sweep: bool
    is_search: bool
    folder: Path
    parallel: int
    is_packed: bool
    launcher_overrides: list[str]


def compose(conf: Path, arguments: argparse.Namespace) -> DictConfig:
    """The config of the command line, with Hydra's own section. Raises: UserError."""
    with opened(conf) as loader:
        config = _load(loader, arguments.config_name, _overrides(loader, arguments))
        if arguments.resolve:
            resolved(config)
        if arguments.package and OmegaConf.select(config, arguments.package) is None:
            keys = cast(dict[str, Any], OmegaConf.to_container(config))
            raise UserError(f"--package: {messages.unknown_key(arguments.package, keys)}")
        return config


def request(conf: Path, arguments: argparse.Namespace) -> Request:
    """Every job that the command line asks for, validated. Raises: UserError on the first wrong one."""
    with opened(conf) as loader:
        overrides = _overrides(loader, arguments)
        config = _load(loader, arguments.config_name, overrides)
        is_sweep = bool(arguments.multirun) or config.hydra.mode == RunMode.MULTIRUN
        is_search = is_sweep and searches(config.hydra)
        parallel, is_packed, launcher_overrides = 1, False, []
        if is_sweep:
            sweeper, launcher = _engine(config, "sweeper"), _engine(config, "launcher")
            fixed = [override for override in overrides if override.is_hydra_override()]
            swept = [override for override in overrides if not override.is_hydra_override()]
            jobs = [
                Job(
                    [shown(word) for word in job],
                    _settings_of_job(loader, arguments.config_name, fixed, job),
                )
                for job in _expand(loader, config, swept)
            ]
            store_address.check(job.settings.tracking.uri for job in jobs)
            most = sweeper.get("n_jobs", 1) if is_search else len(jobs)
            parallel = launchers.at_a_time(launcher, most, jobs[0].settings.device)
            is_free = not is_search and all(each.key_or_group != "hydra/launcher" for each in overrides)
            is_packed = launchers.is_packed(launcher, jobs[0].settings.device, is_free)
            launcher_overrides = launchers.overrides(launcher, parallel, is_packed)
        else:
            for override in overrides:
                if override.is_sweep_override():
                    raise UserError(
                        f"{override.input_line}: more than one value; use -m to sweep over them"
                        " ([...] makes a list, quotes make text with commas)"
                    )
            words = [shown(str(override.input_line)) for override in overrides]
            jobs = [Job(words, _settings(config, overrides))]
        folder = Path(config.hydra.sweep.dir)
        jobs = jobs[:1] if is_search else jobs
        return Request(jobs, is_sweep, is_search, folder, parallel, is_packed, launcher_overrides)


def settings(config: DictConfig) -> Settings:
    """The validated settings in a composed config. Raises: UserError."""
    return validate(resolved(config)).of_new_run()


def resolved(config: DictConfig) -> dict[str, Any]:
    """A composed config without Hydra's section, with its interpolations resolved. Raises: UserError."""
    run = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    for key in ("objective", *Settings.model_fields):  # an objective brings k
        if key not in run:
            raise UserError(f"{key}: needs a value")
    try:
        return cast(dict[str, Any], OmegaConf.to_container(run, resolve=True, throw_on_missing=True))
    except OmegaConfBaseException as error:
        is_missing = isinstance(error, MissingMandatoryValue)
        reason = "needs a value" if is_missing else str(error).partition("\n")[0]
        raise UserError(f"{error.full_key}: {reason}") from error


def sweep(
    conf: Path, arguments: argparse.Namespace, request: Request, job: Callable[[DictConfig], Any]
) -> None:
    """Let Hydra run the jobs. Errors of its launcher or sweeper are raised, where hydra.main would print them."""
    with opened(conf) as loader:
        address = store_address.override(request.jobs[0].settings.tracking.uri)
        launcher_overrides = [
            *(
                str(override.input_line)
                for override in _overrides(loader, arguments)
                if not address or override.key_or_group != store_address.KEY
            ),
            *address,
            "hydra.mode=MULTIRUN",
            f"hydra.sweep.dir={typed.quoted(str(request.folder))}",
            *request.launcher_overrides,
        ]
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None  # the loader belongs to it
        try:
            hydra.multirun(arguments.config_name or "config", job, launcher_overrides)
        finally:
            store_address.mask(request.folder / "multirun.yaml")


def _overrides(loader: ConfigLoader, arguments: argparse.Namespace) -> list[Override]:
    lines = list(arguments.overrides)
    if arguments.config_dir is not None:
        folder = typed.quoted(f"file://{Path(arguments.config_dir).resolve()}")
        lines.append(f"{SEARCH_PATH}=[{folder}]")
    overrides = [parse(loader, line) for line in lines]
    _check_replaced(loader, arguments.config_name, overrides)
    return overrides


def _check_replaced(loader: ConfigLoader, config_name: str | None, overrides: list[Override]) -> None:
    """Compose each choice that a later one of its group replaces: Hydra does not, so a mistyped one would pass."""
    last = {override.get_key_element(): override for override in overrides}
    searched = [override for override in overrides if override.key_or_group == SEARCH_PATH]
    for override in overrides:
        is_choice = not override.is_delete() and loader.get_group_options(override.key_or_group)
        if is_choice and last[override.get_key_element()] is not override:
            is_swept = override.is_sweep_override()
            values = override.sweep_string_iterator() if is_swept else [override.value()]
            for value in values:
                choice = parse(loader, f"{override.get_key_element()}={value}")
                _load(loader, config_name, [*searched, choice])


def _load(loader: ConfigLoader, config_name: str | None, overrides: list[Override]) -> DictConfig:
    """Compose the config. The overrides of a sweep are left for the sweeper."""
    lines = [str(override.input_line) for override in overrides]
    try:
        with warnings.catch_warnings(action="error", category=UserWarning):  # a warning of a missing folder
            config = loader.load_configuration(
                config_name or "config", lines, run_mode=RunMode.RUN, validate_sweep_overrides=False
            )
    except Exception as error:  # a broken file in conf/ raises exceptions that are not Hydra's
        raise UserError(_complaint(error, loader, config_name, overrides)) from error
    HydraConfig.instance().set_config(config)  # for ${hydra:...} in a config
    return config


def _complaint(
    error: Exception, loader: ConfigLoader, config_name: str | None, overrides: list[Override]
) -> str:
    """What is wrong with a config that Hydra cannot compose: what it says, and the cause if that is missing."""
    if isinstance(error, UnicodeDecodeError):
        paths = [cast(list[str], each.value()) for each in overrides if each.key_or_group == SEARCH_PATH]
        return _not_utf8([*(each.path for each in loader.get_search_path().get_path()), *chain(*paths)])
    said = str(error) or str(error.__cause__)
    if added := re.match(r"Multiple values for (\S+)\. To override a value use 'override (\S+): (.*)'", said):
        choice = f"{added[2]}={added[3]}"
        return f"+{choice}: {added[1]} has a choice already, which {choice} replaces"
    if unplaced := re.match(r"In 'experiment/(.+?)': Could not override '.+?@experiment\.", said):
        return messages.without_package(f"experiment={unplaced[1]}")
    if unmatched := re.match(r"Could not override '(.+?)'\. No match in the defaults list", said):
        group, having = unmatched[1], _having(loader, unmatched[1])
        return f"{group}: not every {group.partition('/')[0]} has this group; choose one that has, such as {having}"
    missing = re.search(r"Could not find '(.+)/(.*?)'", said)
    if isinstance(error, MissingConfigException) and missing:
        return messages.unknown_choice(missing[1], missing[2], loader.get_group_options(missing[1]))
    unknown = re.match(r"Could not (?:override|delete from config\.) '(.+?)'", said)
    choices = [override for override in overrides if is_choice(loader, override)]
    if isinstance(error, ConfigCompositionException) and unknown and len(choices) < len(overrides):
        keys = cast(dict[str, Any], OmegaConf.to_container(_load(loader, config_name, choices)))
        if not unknown[1].startswith("hydra."):
            del keys["hydra"]
        hint = f" (where only a swept choice brings it, write {unknown[1]}=choice(...))"
        is_swept = any(override.is_sweep_override() for override in overrides)
        return messages.unknown_key(unknown[1], keys) + hint * is_swept
    if said.startswith("Error merging override"):
        reason = str(error.__cause__).partition("\n")[0]
        said = f"{said}: {reason}"
    return messages.one_line(said.partition("\nConfig search path:")[0])


def _having(loader: ConfigLoader, group: str) -> str:
    """The choice that brings a group below another, such as objective=uivi."""
    above = group.partition("/")[0]
    for choice in loader.get_group_options(above):
        with contextlib.suppress(UserError):
            if group in _load(loader, None, [parse(loader, f"{above}={choice}")]).hydra.runtime.choices:
                return f"{above}={choice}"
    return f"another {above}"


def _not_utf8(search_path: Iterable[str]) -> str:
    """The message about the first file on Hydra's search path that is not UTF-8, which Hydra does not name."""
    folders = [Path(place.removeprefix("file://")) for place in search_path if place.startswith("file://")]
    for file in sorted(file for folder in folders for file in folder.rglob("*.yaml") if file.is_file()):
        try:
            file.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            return f"{file} is not UTF-8 (byte 0x{error.object[error.start]:02x}): save it as UTF-8"
    return "a config file is not UTF-8"


def _expand(loader: ConfigLoader, config: DictConfig, overrides: list[Override]) -> list[list[str]]:
    """The overrides of each job of a sweep."""
    params = OmegaConf.select(config, "hydra.sweeper.params") or {}
    overrides = [*(parse(loader, f"{key}={value}") for key, value in params.items()), *overrides]
    if searches(config.hydra):
        return search.corners(overrides)
    for override in overrides:
        if override.is_interval_sweep():
            raise UserError(f"{override.input_line}: an interval is for a search: add hydra/sweeper=optuna")
    swept = [override for override in overrides if override.is_sweep_override()]
    counts = [sum(1 for _ in islice(each.sweep_iterator(), MAX_JOBS + 1)) for each in swept]
    for override, count in zip(swept, counts, strict=True):
        if not count:
            choices = sorted(loader.get_group_options(override.key_or_group))
            there = f" Choices: {', '.join(choices)}" if choices else ""
            raise UserError(f"{override.input_line}: has no value.{there}")
    if math.prod(counts) > MAX_JOBS:
        raise UserError(f"{', '.join(str(each.input_line) for each in swept)}: more than {MAX_JOBS} jobs")
    try:
        (jobs,) = BasicSweeper.split_arguments(overrides, max_batch_size=None)
    except HydraException as error:
        raise UserError(messages.one_line(str(error))) from error
    return jobs


def _settings(config: DictConfig, overrides: list[Override]) -> Settings:
    try:
        return settings(config)
    except UserError as error:
        raise UserError(typed.as_typed(str(error), overrides)) from error


def _settings_of_job(
    loader: ConfigLoader, config_name: str | None, fixed: list[Override], job: list[str]
) -> Settings:
    try:
        overrides = [*fixed, *(parse(loader, line) for line in job)]
        return _settings(_load(loader, config_name, overrides), overrides)
    except UserError as error:
        raise UserError(f"job '{' '.join(job)}': {error}") from error


def _engine(config: DictConfig, kind: str) -> dict[str, Any]:
    """The config of Hydra's launcher or sweeper, checked. Raises: UserError where it cannot be used."""
    engine = cast(dict[str, Any], OmegaConf.to_container(config.hydra[kind], resolve=True))
    launchers.prepare(kind, config.hydra.runtime.choices[f"hydra/{kind}"], engine)
    return engine
