"""Reads the flags of a command line, and refuses those that Hydra would ignore or answer with an exception."""

import argparse
from pathlib import Path
from typing import NoReturn

from hydra._internal.utils import get_args_parser

from evidence.config import messages
from evidence.errors import UserError
from evidence.passwords import masked

TAGS = "tags."  # keys that the user invents; Hydra takes them with ++ only
COMPLETION = ("install=", "uninstall=", "query=")


def read_arguments(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """What Hydra's parser reads in `argv`, and the same command line with the overrides before the flags.

    The parser refuses overrides on both sides of a flag, such as `k=1 -m seed=0,1`, and people write these.
    """
    parser = get_args_parser()
    parser.error = _refuse  # type: ignore[method-assign]
    arguments, rest = parser.parse_known_args(argv)
    flags = [word for word in rest if word.startswith("-")]
    if flags:
        known = [flag for action in parser._actions for flag in action.option_strings]
        bare = flags[0].lstrip("-")
        match = bare if "=" in bare else messages.nearest(flags[0], [*known, "--help"])
        hint = f": did you mean '{match}'?" if match else "."
        raise UserError(f"unknown flag '{flags[0]}'{hint} Keys are written key=value, no dashes; see --help")
    typed = [*arguments.overrides, *rest]
    arguments.overrides = [f"++{word}" if word.startswith(TAGS) else word for word in typed]
    _check_flags(arguments)
    return arguments, arguments.overrides + [word for word in argv if word not in typed]


def shown(word: str) -> str:
    """An override as it is shown: without the ++ that `read_arguments` gives to a tag, and without a password."""
    return masked(word[2:] if word.startswith(f"++{TAGS}") else word)


def _check_flags(arguments: argparse.Namespace) -> None:
    """Refuse flags that Hydra ignores where they stand, or answers with an exception."""
    modes = ("run", "multirun", "cfg", "info", "shell_completion")
    if sum(bool(getattr(arguments, mode)) for mode in modes) > 1:
        raise UserError("--run, --multirun, --cfg, --info and --shell-completion exclude one another")
    for flag in ("resolve", "package"):
        if getattr(arguments, flag) and not arguments.cfg:
            raise UserError(f"--{flag} goes with --cfg: it says how the config is shown")
    if arguments.shell_completion and sum(word.startswith(COMPLETION) for word in arguments.overrides) != 1:
        raise UserError(f"--shell-completion: needs one of {', '.join(COMPLETION)}, such as install=bash")
    if arguments.experimental_rerun:
        raise UserError("--experimental-rerun: type the same command again, and it goes on")
    if arguments.config_name == "":
        raise UserError("--config-name: needs a name")
    if arguments.config_dir is not None and not (
        arguments.config_dir and Path(arguments.config_dir).is_dir()
    ):
        raise UserError(f"--config-dir={arguments.config_dir}: there is no such folder")


def _refuse(message: str) -> NoReturn:
    raise UserError(message)
