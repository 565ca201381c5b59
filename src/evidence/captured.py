"""Takes a step that reads and writes tensors in place: again and again, or on a GPU by replaying a captured graph.

A graph of a step has some seventy small kernels, which Python would launch one by one. Replayed, they take a twentieth
of that time. What a step keeps must be in tensors that stay where they are, since a replay knows only their addresses.
"""

import gc
from collections.abc import Callable

import torch

from evidence.errors import UserError
from evidence.startup import without_garbage_collection

STEPS = 20  # of a replay: on an H100 more do not make it faster
WARM_UP = 3  # steps, in which kernels are compiled and libraries take their memory


class Repeat:
    """Takes a number of steps, one after the other."""

    def __init__(self, step: Callable[[], None]) -> None:
        self._step = step

    def __call__(self, count: int) -> None:
        """Take `count` steps."""
        for _ in range(count):
            self._step()

    def wait(self) -> None:
        """Wait until the steps are done. Here they are."""


class Replay(Repeat):
    """Takes a number of steps on a CUDA device, on a stream of its own, by replaying graphs of them.

    The first steps are taken as they are. Then STEPS of them are captured as one graph, and one step as another.
    """

    def __init__(self, step: Callable[[], None], device: torch.device) -> None:
        super().__init__(step)
        self._device, self._warm = device, 0
        self._graphs: dict[int, torch.cuda.CUDAGraph] = {}
        self._stream = torch.cuda.Stream(device)

    def __call__(self, count: int) -> None:
        """Start `count` steps. They begin after what the device was told before, and this does not wait for them."""
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        while count and self._warm < WARM_UP:
            with torch.cuda.stream(self._stream):
                self._step()
            self._warm, count = self._warm + 1, count - 1
        while count:
            size = STEPS if count >= STEPS else 1
            graph = self._graphs.get(size) or self._capture(size)
            with torch.cuda.stream(self._stream):
                graph.replay()
            count -= size

    def wait(self) -> None:
        """What the device is told from here on begins after these steps."""
        torch.cuda.current_stream(self._device).wait_stream(self._stream)

    def _capture(self, size: int) -> torch.cuda.CUDAGraph:
        gc.collect()  # a graph of before that is collected during a capture ends it
        before = torch.cuda.current_stream(self._device)
        try:
            with without_garbage_collection(), torch.cuda.device(self._device):
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                    for _ in range(size):
                        self._step()
        except RuntimeError as error:
            torch.cuda.set_stream(before)  # torch leaves the capture's where one fails
            why = str(error.__context__ or error).splitlines()[0]
            raise UserError(
                f"a step cannot be captured as a CUDA graph ({why}): choose compile=false"
            ) from error
        self._graphs[size] = graph
        return graph
