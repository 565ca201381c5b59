"""run.py with the arguments given, which says FIRST_STEP when its first training step is done and is then stopped."""

import sys
from typing import Any

from evidence.cli.command_line import main
from evidence.startup import without_garbage_collection
from experiments.speed.setting import FIRST_STEP, ROOT

with without_garbage_collection():  # as the command line imports torch
    from torch.optim.optimizer import register_optimizer_step_post_hook


def stop(*_: Any) -> None:
    """As Ctrl-C does, so that the run is closed in MLflow and the next one finds nothing to mend."""
    print(FIRST_STEP, flush=True)
    raise KeyboardInterrupt


if __name__ == "__main__":
    register_optimizer_step_post_hook(stop)
    main(sys.argv[1:], conf=ROOT / "conf")
