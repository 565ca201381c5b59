"""How a run computes: the device, its threads, and whether its steps are compiled. All can change the last bits.

It is settled when a run first starts, kept in its checkpoints and used again, so that a run broken off and
continued ends with the bits of one that was not. Where that cannot be, on other hardware, the run says so and
is marked.
"""

import os
import shutil
from logging import ERROR, getLogger
from typing import Any, Literal

import torch

from evidence.errors import UserError
from evidence.models import LatentVariableModel
from evidence.objectives import Objective

THREADS = torch.get_num_threads()  # of a run that begins here
PAYING_STEPS = 10_000  # compiling takes 10 to 20 s, and saves 2 to 4 ms a step on two CPU cores


def choose_device(name: str, job_number: int) -> torch.device:
    """auto takes CUDA if it is there; the jobs of a sweep go round the devices that there are."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "cuda" and not count:
        raise UserError("device=cuda: no CUDA device is available here; choose device=cpu or device=auto")
    return torch.device("cuda", job_number % count) if name != "cpu" and count else torch.device("cpu")


def wants_compiling(
    setting: bool | Literal["auto"],
    model: LatentVariableModel,
    objective: Objective,
    device: torch.device,
    steps: int,
) -> bool:
    """Whether a run that begins compiles its steps: as it is told, or on a CPU where `steps` in all pay for it.

    A user's own modules, which may do what cannot be compiled, are compiled only if it is told to.
    Raises: UserError where it is told to and cannot.
    """
    reason = ""
    if not objective.is_compilable:
        reason = f"{type(objective).__name__} cannot be compiled"
    elif device.type == "cpu" and not _has_compiler():
        reason = "no C++ compiler is here (install g++)"
    if setting is True and reason:
        raise UserError(f"compile=true: {reason}; choose compile=false or compile=auto")
    if reason or setting != "auto":
        return not reason and setting is True
    modules = [*model.modules(), *objective.modules()]
    is_known = all(type(module).__module__.startswith(("evidence.", "torch.")) for module in modules)
    return is_known and device.type == "cpu" and steps >= PAYING_STEPS


def settle(device: torch.device, compiled: bool, kept: dict[str, Any] | None) -> tuple[dict[str, Any], str]:
    """The execution from here on, its threads set; what was kept is used again, and in words what could not be."""
    threads = THREADS if kept is None else kept["threads"]
    torch.set_num_threads(threads)
    if kept is not None:
        compiled = kept["compiled"] and (device.type != "cpu" or _has_compiler())
    here = {"hardware": _hardware(device), "threads": threads, "compiled": compiled}
    if kept is None or kept == here:
        return here, ""
    changes = (f"{key} {kept[key]} is now {here[key]}" for key in here if kept[key] != here[key])
    return here, ", ".join(changes)


def compiled(objective: Objective) -> Objective:
    """The same function, whose forward and backward passes are one fused graph each, made when it is first called.

    It draws the random numbers that the objective itself would draw.
    """
    torch.compiler.reset()  # of the jobs of a sweep that came before: a function is compiled for eight cases at most
    getLogger("torch.utils.cpp_extension").setLevel(ERROR)  # that there is no GPU
    options: dict[str, Any] = {"fallback_random": True, "cpp_wrapper": True}
    return torch.compile(objective, fullgraph=True, dynamic=False, options=options)  # type: ignore[return-value]


def _has_compiler() -> bool:
    return any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "clang++"))


def _hardware(device: torch.device) -> str:
    """What decides how a product is rounded: the name of the GPU, or the CPU's instruction set."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu {torch.backends.cpu.get_cpu_capability()}"
