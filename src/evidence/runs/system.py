"""Measures the process and its GPU while it trains, for `tracking.system_metrics=true`."""

import os
import time

import torch

MEGABYTE = 2**20


class SystemMetrics:
    """Measures since the last call. Runs that train together in one process have the same numbers.

    system/cpu_percent: the processor time, of all threads, over the time that has passed; 200 is two cores.
    system/memory_mb: the memory of the process. system/gpu_memory_mb: what torch holds on the GPU, where it uses one.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._wall, self._processor = time.monotonic(), time.process_time()

    def measure(self) -> dict[str, float]:
        """The metrics by name."""
        wall, processor = time.monotonic(), time.process_time()
        passed, used = max(wall - self._wall, 1e-9), processor - self._processor
        self._wall, self._processor = wall, processor
        found = {"system/cpu_percent": 100 * used / passed, "system/memory_mb": _resident() / MEGABYTE}
        if self._device.type == "cuda":
            found["system/gpu_memory_mb"] = torch.cuda.memory_reserved(self._device) / MEGABYTE
        return found


def _resident() -> float:
    """Bytes. Where there is no /proc, the largest number so far."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * float(os.sysconf("SC_PAGE_SIZE"))
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0
