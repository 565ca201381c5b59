"""The machine's own rate: the matrix product of floor.SHAPE and nothing else, by PyTorch."""

import torch

from experiments.speed.floor import SHAPE
from experiments.speed.setting import task
from experiments.speed.workers.devices import wait
from experiments.speed.workers.protocol import Run, serve


def prepare(case: str) -> Run:
    """One step is one product, whatever the case."""
    rows, inner, columns = SHAPE
    a, b = torch.randn(rows, inner, device=DEVICE), torch.randn(inner, columns, device=DEVICE)
    out = torch.empty(rows, columns, device=DEVICE)

    def run(count: int) -> int:
        for _ in range(count):
            torch.mm(a, b, out=out)
        wait(DEVICE)
        return count

    return run


if __name__ == "__main__":
    DEVICE = torch.device(task().device)
    serve(prepare)
