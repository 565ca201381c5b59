"""Says which job of a sweep Hydra runs here, and whether its sweeper searches."""

from pathlib import Path
from typing import Any, NamedTuple

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode


class JobContext(NamedTuple):
    """The job of a sweep that Hydra runs here."""

    number: int
    overrides: list[str]
    is_search: bool
    folder: Path


def job_context(hydra: Any = None) -> JobContext | None:
    """Return the job of a sweep that this section of Hydra's describes, or the present one; None outside a sweep."""
    config = HydraConfig.get() if hydra is None else hydra
    if config.mode != RunMode.MULTIRUN:
        return None
    return JobContext(config.job.num, list(config.overrides.task), searches(config), Path(config.sweep.dir))


def searches(hydra: Any) -> bool:
    """Whether the sweeper in Hydra's section chooses its jobs as it goes."""
    return bool(hydra.sweeper._target_ != f"{BasicSweeper.__module__}.{BasicSweeper.__name__}")
