"""How a run computes: the device and its threads, which can change the last bits of a number.

It is settled when a run first starts, kept in its checkpoints and used again, so that a run broken off and
continued ends with the bits of one that was not. Where that cannot be, on other hardware, the run says so and
is marked.
"""

from typing import Any

import torch

from evidence.errors import UserError

THREADS = torch.get_num_threads()  # of a run that begins here


def choose_device(name: str, job_number: int) -> torch.device:
    """auto takes CUDA if it is there; the jobs of a sweep go round the devices that there are."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "cuda" and not count:
        raise UserError("device=cuda: no CUDA device is available here; choose device=cpu or device=auto")
    return torch.device("cuda", job_number % count) if name != "cpu" and count else torch.device("cpu")


def settle(device: torch.device, kept: dict[str, Any] | None) -> tuple[dict[str, Any], str]:
    """The execution from here on, its threads set; what was kept is used again, and in words what could not be."""
    threads = THREADS if kept is None else kept["threads"]
    torch.set_num_threads(threads)
    here = {"hardware": _hardware(device), "threads": threads}
    if kept is None or kept == here:
        return here, ""
    changes = (f"{key} {kept[key]} is now {here[key]}" for key in here if kept[key] != here[key])
    return here, ", ".join(changes)


def _hardware(device: torch.device) -> str:
    """What decides how a product is rounded: the name of the GPU, or the CPU's instruction set."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu {torch.backends.cpu.get_cpu_capability()}"
