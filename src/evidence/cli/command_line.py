"""Runs one command line, from what was typed to an exit status.

Status 0: every job ended well. 1: a job failed. 2: the command line is wrong, and nothing was begun. 130: stopped
by Ctrl-C. 143: stopped by SIGTERM. An error is printed as one line. HYDRA_FULL_ERROR=1 prints its traceback too.

Importing Hydra takes 0.3 s, torch and mlflow seconds. So each is imported where it is first needed.
"""

import contextlib
import io
import os
import sys
import traceback
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from evidence import project
from evidence.cli.help import help_text
from evidence.display.output import unfailing
from evidence.errors import Terminated, UserError, is_failure
from evidence.passwords import masked
from evidence.startup import without_garbage_collection
from evidence.termination import STATUS, ending, passing_on

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

    from omegaconf import DictConfig

    from evidence.config.compose import Request
    from evidence.config.job_context import JobContext
    from evidence.runs.driver import Coroutine
    from evidence.runs.fit import ShowProgress


def main(argv: list[str], conf: Path) -> int:
    """Do what `argv` asks, with the configs in the folder `conf`, and return the exit status."""
    with passing_on(), unfailing():
        return _main(argv, conf)


def _main(argv: list[str], conf: Path) -> int:
    try:
        return _run(argv, conf)
    except KeyboardInterrupt:
        _say("interrupted")
        return 130
    except Terminated:
        _say("terminated")
        return STATUS
    except Exception as error:
        _complain(error)
        return 2
    except SystemExit as stop:  # a job has failed, or Hydra has stopped; the reason is printed
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)


@unfailing()  # a launcher may call it in a process of its own
def job(config: "DictConfig") -> float | None:
    """Run one job, as Hydra calls it. Return the validation negative log-likelihood in nats.

    A job of a sweep that fails returns None and leaves a note. A run alone that fails ends the process, status 1.
    """
    from evidence.config import compose
    from evidence.config.job_context import job_context

    context = job_context()
    if context is not None:
        from evidence.display import terminal
        from evidence.runs.driver import alone

        return alone(_job_of_sweep(config, context, terminal.progress))
    try:
        with without_garbage_collection():
            from evidence.runs.lifecycle import run

        return run(compose.settings(config))
    except BaseException as error:
        if not is_failure(error):
            raise
        _complain(error)
        sys.exit(1)  # Hydra lets SystemExit pass, and not an Exception


def job_in(root: Path, config: "DictConfig") -> float | None:
    """Run one job of a sweep with the root of the sweep's process, in the process that a launcher has chosen."""
    project.work_in(root)
    with ending():
        return job(config)


def jobs_together(root: Path, configs: "Sequence[DictConfig]") -> list[float | None]:
    """Run the jobs of a sweep with these configs, Hydra's section included; they train together. See `job_in`."""
    project.work_in(root)
    from evidence.config.job_context import job_context
    from evidence.display import terminal
    from evidence.runs.driver import together

    shown = terminal.SharedProgress(len(configs)).member
    with ending():
        return together(
            [
                _job_of_sweep(config, context, shown)
                for config in configs
                if (context := job_context(config.hydra)) is not None
            ]
        )


def _job_of_sweep(
    config: "DictConfig", context: "JobContext", shown: "ShowProgress"
) -> "Coroutine[float | None]":
    from evidence.config import compose, flags
    from evidence.sweeps.notes import JobNotes, Note

    overrides = [flags.shown(word) for word in context.overrides]
    job_notes, note = JobNotes(context.folder), Note(context.number, overrides)
    try:
        settings = compose.settings(config)
        if settings.fail_fast and job_notes.has_failure():
            return None
        from evidence.runs import lifecycle, lookup

        located = lookup.locate(settings, project.root())
        work = (located.identity.run, settings.name, settings.tracking.uri)
        if not context.is_search and not job_notes.claim(context.number, *work):
            return None  # an earlier job computes this run; only a search uses what is returned
        note = note._replace(folder=str(located.directory.folder))
        job_notes.write(note)
        nll = yield from lifecycle.coroutine(settings, located, context.number, shown, job_notes.sweep())
        job_notes.write(note._replace(status="ENDED"))
        return nll
    except BaseException as error:
        if not is_failure(error):
            raise
        said = _complain(error, f"{' '.join(overrides)}: ")
        job_notes.write(note._replace(status="FAILED", error=said))
        return None


def _run(argv: list[str], conf: Path) -> int:
    if "--help" in argv or "-h" in argv:
        print(help_text(conf))
        return 0
    if argv[:1] == ["report"]:
        from evidence.report import experiment

        return experiment.main(argv[1:])
    from evidence.config import compose, store_address

    arguments, words = compose.read_arguments(argv)
    if arguments.config_path:
        raise UserError("--config-path: conf/ is the only one; --config-dir=FOLDER adds yours to its choices")
    if any(store_address.KEY in word and store_address.has_password(word) for word in words):
        _say(f"{store_address.KEY}: others can read the password in a command line: {store_address.INSTEAD}")
    if arguments.cfg or arguments.info:
        compose.compose(conf, arguments)
        with contextlib.redirect_stdout(io.StringIO()) as shown:
            _hydra(words, conf)
        print(masked(shown.getvalue()), end="")
        return 0
    if not (arguments.hydra_help or arguments.shell_completion):
        request = compose.request(conf, arguments)
        settings = request.jobs[0].settings
        if settings.sync:
            from evidence.runs import lifecycle

            return 0 if lifecycle.sync(settings) else 1
        if settings.plan or request.is_sweep:
            return _sweep(request, arguments, conf)
    _hydra(words, conf)
    return 0


def _sweep(request: "Request", arguments: "Namespace", conf: Path) -> int:
    from evidence.config import compose
    from evidence.runs import lifecycle
    from evidence.sweeps import plan, summary
    from evidence.sweeps.notes import JobNotes

    root = project.root()
    if request.jobs[0].settings.plan:
        plan.show(request, root)
        return 0
    request = request._replace(folder=root / request.folder)
    planned = plan.survey(request.jobs, root)
    for line in plan.words(request, planned):
        _say(line)
    left = [each.settings for each in planned.jobs if each.is_left or request.is_search]
    stores = {str((each.tracking, each.name, each.paths)): each for each in left}
    for settings in stores.values():
        lifecycle.prepare(settings)  # once, here: otherwise jobs that run at the same time would all do it
    job_notes = JobNotes(request.folder)
    job_notes.clear()
    job_notes.write_sweep(plan.sweep_of(request, planned.jobs, arguments.overrides))
    is_broken = False
    try:
        compose.sweep(conf, arguments, request, partial(job_in, root))
    except Exception as error:  # such as a cluster that does not answer, or a process that was killed
        if request.is_search and job_notes.has_only_failures():
            _say("no job of the search has finished, so none is the best")
        else:
            _complain(error)
        is_broken = True
    finally:
        outcomes = summary.outcomes(request, planned.jobs, job_notes)
        summary.show(request, outcomes, root)
    return 1 if is_broken else summary.exit_status(outcomes)


def _hydra(words: list[str], conf: Path) -> None:
    import hydra
    from hydra._internal import utils

    utils.run_and_report = lambda func: func()  # Hydra's own report of an error takes several lines
    sys.argv[1:] = words  # where Hydra reads them
    hydra.main(version_base="1.3", config_path=str(conf), config_name="config")(job)()


def _say(text: str) -> None:
    print(f"evidence: {text}", file=sys.stderr)


def _complain(error: BaseException, prefix: str = "") -> str:
    """Print an error as one line, and return the line without the prefix.

    HYDRA_FULL_ERROR=1 prints the traceback first.
    """
    from evidence.config.messages import describe

    if os.environ.get("HYDRA_FULL_ERROR") == "1":
        print(masked("".join(traceback.format_exception(error))), end="", file=sys.stderr)
    hint = "" if isinstance(error, UserError) else " (HYDRA_FULL_ERROR=1 shows the traceback)"
    said = masked(describe(error)) + hint
    _say(prefix + said)
    return said
