"""The machine's own rate: the matrix product of floor.SHAPE and nothing else, by the faster of torch's libraries."""

import time
from collections.abc import Callable

import torch

from evidence import products
from experiments.speed.floor import SHAPE
from experiments.speed.setting import task
from experiments.speed.workers.devices import wait
from experiments.speed.workers.protocol import Run, serve

ROUNDS = 20


def fastest(calls: list[Callable[[], object]], wait: Callable[[], None]) -> Callable[[], object]:
    """The call whose shortest time of several is the least; they take turns."""
    shortest = [float("inf")] * len(calls)
    for _ in range(ROUNDS):
        for number, call in enumerate(calls):
            began = time.perf_counter()
            call()
            wait()
            shortest[number] = min(shortest[number], time.perf_counter() - began)
    return calls[shortest.index(min(shortest))]


def prepare(case: str) -> Run:
    """One step is one product, whatever the case."""
    rows, inner, columns = SHAPE
    a, b = torch.randn(rows, inner, device=DEVICE), torch.randn(inner, columns, device=DEVICE)
    out, weight = torch.empty(rows, columns, device=DEVICE), b.T.contiguous()
    calls: list[Callable[[], object]] = [lambda: torch.mm(a, b, out=out)]
    if DEVICE.type == "cpu" and products.has_onednn():
        calls.append(lambda: products.onednn(a, weight))
    product = fastest(calls, lambda: wait(DEVICE))

    def run(count: int) -> int:
        for _ in range(count):
            product()
        wait(DEVICE)
        return count

    return run


if __name__ == "__main__":
    DEVICE = torch.device(task().device)
    serve(prepare)
