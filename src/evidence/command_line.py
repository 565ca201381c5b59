"""One command line, from what was typed to an exit status.

Status 0: every job ended well. 1: a job failed. 2: the command line is wrong, and nothing was begun.
130: stopped by Ctrl-C. 143: stopped by SIGTERM. Whatever is wrong is said in one line, to which
HYDRA_FULL_ERROR=1 adds the traceback.

Hydra takes 0.3 s to import, torch and mlflow seconds, so each is imported where it is first needed.
"""

import math
import os
import signal
import sys
import traceback
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from evidence.errors import Terminated, UserError
from evidence.help import help_text

if TYPE_CHECKING:
    from omegaconf import DictConfig

_failures: list[str] = []  # of the jobs of this process: one that fails does not stop a sweep


def main(argv: list[str], conf: Path) -> int:
    """The exit status, after doing what `argv` asks with the configs in the folder `conf`."""
    if "--help" in argv or "-h" in argv:
        print(help_text(conf))
        return 0
    handler = signal.signal(signal.SIGTERM, _terminate)
    try:
        return _run(argv, conf)
    except KeyboardInterrupt:
        print("evidence: interrupted", file=sys.stderr)
        return 130
    except Terminated:
        print("evidence: terminated", file=sys.stderr)
        return 143
    except Exception as error:
        _complain(error)
        return 2
    finally:
        signal.signal(signal.SIGTERM, handler)


def job(config: "DictConfig") -> float:
    """One job, as Hydra calls it: the validation negative log-likelihood in nats, NaN if the job failed."""
    from evidence import composing

    try:
        from evidence.experiment import run

        return run(composing.settings(config))
    except Exception as error:
        name = composing.job_name()
        _complain(error, f"{name}: " if name else "")
        _failures.append(name)
        return math.nan


def _run(argv: list[str], conf: Path) -> int:
    import hydra

    from evidence import composing

    arguments, argv = composing.read_arguments(argv)
    num_jobs = 0
    if arguments.cfg or arguments.info:
        composing.compose(conf, arguments)
    elif not (arguments.hydra_help or arguments.shell_completion or arguments.config_path):
        num_jobs = len(composing.plan(conf, arguments))
    _failures.clear()
    sys.argv[1:] = argv  # where Hydra reads them
    hydra.main(version_base="1.3", config_path=str(conf), config_name="config")(job)()
    if _failures and num_jobs > 1:
        summary = f"{len(_failures)} of {num_jobs} jobs failed: {'; '.join(_failures)}"
        print(f"evidence: {summary}", file=sys.stderr)
    return 1 if _failures else 0


def _complain(error: Exception, prefix: str = "") -> None:
    said = " ".join(str(error).split())
    if os.environ.get("HYDRA_FULL_ERROR") == "1":
        traceback.print_exception(error)
    elif not isinstance(error, UserError):
        said = f"{type(error).__name__}: {said} (HYDRA_FULL_ERROR=1 shows the traceback)"
    print(f"evidence: {prefix}{said}", file=sys.stderr)


def _terminate(signum: int, frame: FrameType | None) -> NoReturn:
    raise Terminated
