"""A Hydra launcher that trains the jobs of a sweep together in one process: conf/hydra/launcher/packed.yaml.

Hydra looks for its plugins in this package, and imports them at each start. So nothing slow is imported here.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict


class PackedLauncher(Launcher):
    """Trains at most `n_jobs` jobs at a time; those that differ in seeds and in floats alone are one batched step."""

    def __init__(self, n_jobs: int | None) -> None:
        super().__init__()
        self._n_jobs = n_jobs

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what `launch` needs. The jobs are evidence's own, whatever the task function."""
        self._context, self._config = hydra_context, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        """What the jobs return, in their order."""
        from evidence import project
        from evidence.cli.command_line import jobs_together
        from evidence.sweeps import packed

        setup_globals()
        Path(str(self._config.hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
        configs = [self._job(overrides, initial_job_idx + n) for n, overrides in enumerate(job_overrides)]
        returns = []
        for value in packed.train(configs, self._n_jobs, partial(jobs_together, project.root())):
            found = JobReturn()
            found.return_value, found.status = value, JobStatus.COMPLETED
            returns.append(found)
        return returns

    def _job(self, overrides: Sequence[str], number: int) -> DictConfig:
        config = self._context.config_loader.load_sweep_config(self._config, list(overrides))
        with open_dict(config):
            config.hydra.job.id = str(number)
            config.hydra.job.num = number
        HydraConfig.instance().set_config(config)  # for ${hydra:...} in a config
        return config
