"""How a run computes: device, threads, the library of matrix products, steps compiled and captured as a graph or not.

All can change the last bits. It is settled when a run first starts, kept in its checkpoints and used again, so that a
run broken off and continued ends with the same bits as an uninterrupted one. Where that cannot be, on other hardware,
the run says so and is marked.
"""

import os
import shutil
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import nn

from evidence import products
from evidence.errors import UserError
from evidence.models import ROWS_KEPT
from evidence.modules import is_users
from evidence.objectives import Objective

THREADS = torch.get_num_threads()  # of a run that begins here
# Compiling takes 10 to 20 s, and on two CPU cores saves 2 to 4 ms a step and 4 us an (image, sample) pair scored.
PAYING_STEPS, PAYING_PAIRS = 10_000, 10**7


def prepare(precision: Literal["float32", "tf32"]) -> None:
    """Set torch up as every run needs it, before any other tensor operation, so that worker threads inherit it.

    TF32 rounds the factors of a GPU's matrix products to 10 bits of mantissa.
    """
    torch.set_flush_denormal(True)
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    torch.set_default_dtype(torch.float32)  # a user's module of a job before may have changed it


def choose_device(name: str, job_number: int) -> torch.device:
    """auto takes CUDA if it is there; the jobs of a sweep go round the devices that there are."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "cuda" and not count:
        raise UserError("device=cuda: no CUDA device is available here; choose device=cpu or device=auto")
    return torch.device("cuda", job_number % count) if name != "cpu" and count else torch.device("cpu")


def check_precision(precision: Literal["float32", "tf32"], device: torch.device) -> None:
    """Raise UserError where the device has no such products."""
    if precision == "tf32" and (device.type != "cuda" or torch.cuda.get_device_capability(device) < (8, 0)):
        raise UserError(
            "precision=tf32: needs a CUDA device of compute capability 8; choose precision=float32"
        )


def pays(steps: int, rows: int) -> bool:
    """Whether compiling them pays in `steps` steps of `rows` (sample, image) pairs: not where these go in pieces."""
    return steps >= PAYING_STEPS and rows <= ROWS_KEPT


def wants_compiling(setting: bool | Literal["auto"], parts: Sequence[nn.Module], pays: bool) -> bool:
    """Whether what `parts` compute is compiled: as it is told, or where it pays.

    A user's own modules, which may do what cannot be compiled, are compiled only if it is told to.
    Raises: UserError where it is told to and cannot.
    """
    reason = ""
    for part in parts:
        if isinstance(part, Objective) and not part.is_compilable and part.compiled_part is None:
            reason = f"{type(part).__name__} cannot be compiled"
    if not reason and not _has_compiler():
        reason = "no C++ compiler is here (install g++)"
    if setting is True and reason:
        raise UserError(f"compile=true: {reason}; choose compile=false or compile=auto")
    if reason or setting != "auto":
        return not reason and setting is True
    modules = (module for part in parts for module in part.modules())
    return pays and not any(map(is_users, modules))


def settle(
    device: torch.device, compiled: bool, captured: bool, kept: dict[str, Any] | None, is_told: bool
) -> tuple[dict[str, Any], str]:
    """The execution from here on, in force, and in words what is no longer as it was kept.

    What was kept is used again as far as possible. Where the user has told whether to compile, that is done.
    """
    if kept is None:
        threads, library = THREADS, products.faster() if device.type == "cpu" else "torch"
    else:
        threads, library = kept["threads"], kept["products"]
        if not is_told:
            compiled = kept["compiled"] and _has_compiler()
            captured = kept["captured"] and device.type == "cuda"
    here = {
        "hardware": _hardware(device),
        "threads": threads,
        "compiled": compiled,
        "captured": captured,
        "products": library if products.has_onednn() else "torch",
    }
    enforce(here)
    if kept is None or kept == here:
        return here, ""
    changes = (f"{key} {kept[key]} is now {here[key]}" for key in here if kept[key] != here[key])
    return here, ", ".join(changes)


def enforce(execution: dict[str, Any]) -> None:
    """What follows in this process computes so: before each piece of work of a run, where several take turns."""
    torch.set_num_threads(execution["threads"])
    products.use(execution["products"], execution["threads"])


def _has_compiler() -> bool:
    return any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "clang++"))


def _hardware(device: torch.device) -> str:
    """What decides how a product is rounded: the name of the GPU, or the CPU's instruction set."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu {torch.backends.cpu.get_cpu_capability()}"
