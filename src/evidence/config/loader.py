"""Hydra's config loader, with our files for launchers and sweepers in place of the plugins' own."""

import contextlib
import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hydra import initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig


class Repository(ConfigRepository):
    """Where configs are found.

    Hydra makes a deep copy for each load, to give the copy a list of other sources. That copies the configs of all
    plugins, which no load changes, and takes a third of a load's time. This copy has the sources themselves.
    """

    def __deepcopy__(self, memo: dict[int, Any]) -> "Repository":
        """A copy whose list of sources may be replaced."""
        return copy.copy(self)


class Loader(ConfigLoaderImpl):
    """Loads configs. A file in conf/hydra replaces the one that a plugin registers under the same name.

    Hydra would merge the two, and their keys differ. A launcher sends its loader to the process of a job. There
    Hydra has registered all plugins anew, after the sweep's process could do anything about it. So every load
    removes theirs.
    """

    def __init__(self, config_search_path: ConfigSearchPath, conf: Path) -> None:
        super().__init__(config_search_path)
        self.repository = Repository(config_search_path)
        self._ours = [(file.parent.name, file.name) for file in (conf / "hydra").glob("*/*.yaml")]
        self._remove_theirs()

    def load_configuration(self, *args: Any, **kwargs: Any) -> DictConfig:
        """The config, as Hydra's loader composes it."""
        self._remove_theirs()
        return super().load_configuration(*args, **kwargs)

    def _remove_theirs(self) -> None:
        registered = ConfigStore.instance().repo["hydra"]
        for kind, name in self._ours:
            registered[kind].pop(name, None)


@contextlib.contextmanager
def opened(conf: Path) -> Iterator[Loader]:
    """A loader of the configs in the folder `conf`, which Hydra uses inside the block.

    Outside of it Hydra is as it was: the caller may be a Hydra program itself.
    """
    callers = GlobalHydra.instance().hydra, HydraConfig.instance().cfg
    GlobalHydra.instance().hydra = None
    try:
        with initialize_config_dir(str(conf), version_base="1.3", job_name="run"):
            ours = GlobalHydra.instance().hydra
            assert ours is not None  # it has just been initialized
            ours.config_loader = found = Loader(ours.config_loader.get_search_path(), conf)
            yield found
    finally:
        GlobalHydra.instance().hydra, HydraConfig.instance().cfg = callers
