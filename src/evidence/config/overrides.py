"""Reads the overrides of a command line, one by one."""

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from evidence.config import messages, typed
from evidence.errors import UserError

OURS = ("hydra.run", "hydra.output_subdir", "hydra.job.chdir", "hydra.job_logging", "hydra.hydra_logging")


def parse(loader: ConfigLoader, line: str) -> Override:
    """The override, checked. Raises: UserError."""
    try:
        (override,) = OverridesParser.create(config_loader=loader).parse_overrides([line])
    except HydraException as error:
        raise UserError(typed.unreadable(line)) from error
    group = override.key_or_group
    if not group:
        raise UserError(f"cannot read '{messages.one_line(line)}': write key=value")
    if override.is_hydra_override() and override.is_sweep_override():
        raise UserError(f"{line}: Hydra's own settings take one value, also in a sweep")
    if f"{group}.".replace("/", ".").startswith(tuple(f"{key}." for key in OURS)):
        raise UserError(f"{line}: a run has a folder and a log of its own, below paths.outputs")
    if is_choice(loader, override) and not isinstance(override.value(), str):
        choice = messages.shown(override.value())
        raise UserError(messages.unknown_choice(group, choice, loader.get_group_options(group)))
    return override


def is_choice(loader: ConfigLoader, override: Override) -> bool:
    """Whether an override chooses from a config group, one option."""
    if override.is_delete() or override.is_sweep_override() or override.package is not None:
        return False
    return bool(loader.get_group_options(override.key_or_group))
