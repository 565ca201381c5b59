"""The run that a sweep has in MLflow. The runs of its jobs are shown below it.

It has no numbers and is FINISHED from the first moment. It ends when the last of its jobs has ended. It is made by
the first job that is delivered, so a sweep without a server gets it later.
"""

import contextlib
import textwrap
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from filelock import FileLock

from evidence.records.directory import RunDirectory
from evidence.records.record import Record, Sweep
from evidence.tracking import contents
from evidence.tracking.runs import SWEEP, MLflowRun

PARENT = "mlflow.parentRunId"


def attached(run: MLflowRun, directory: RunDirectory, record: Record) -> dict[str, str]:
    """The tag that shows a job's run below its sweep's. Empty where the run belongs to no sweep.

    The sweep's run is made if it is missing, and ends no earlier than the job.
    Raises: UserError where the store cannot be used.
    """
    if record.sweep is None:
        return {}
    with _alone_in(directory.folder.parent / ".sweeps"):
        parent = run.sibling(SWEEP, record.sweep.id) or _made(run, record.sweep, record)
        parent.end_no_earlier(datetime.fromisoformat(record.ended or record.sweep.began))
    return {PARENT: parent.run_id}


def _made(run: MLflowRun, sweep: Sweep, record: Record) -> MLflowRun:
    tags = {
        SWEEP: sweep.id,
        "sweep": sweep.words,
        contents.NOTE: f"A sweep: `{sweep.words}`. Its runs are below it. They have the tag `sweep_id` = {sweep.id}.",
        **contents.source_tags(record.provenance.get("git_commit", "unknown")),
    }
    name = textwrap.shorten(f"sweep {sweep.words}", 60, placeholder=" ...")
    return run.make_sibling(name, tags, datetime.fromisoformat(sweep.began))


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Let one process of the outputs folder at a time in. Where the folder cannot be written, there is no lock."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(FileLock(folder / ".lock"))
        yield
