"""What was measured on: a short name for file names, a line for readers."""

import os
import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

PEERS = ("jax", "pythae")
BF16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}  # as Linux names them on x86 and Arm


def name(device: str) -> str:
    """The processor's or the GPU's, without the words that all of them have."""
    full = torch.cuda.get_device_name() if device == "cuda" else _cpuinfo("model name") or platform.machine()
    return re.sub(r"\((R|TM)\)|\bCPU\b|\bProcessor\b|@.*", "", full).strip()


def threads() -> int:
    """That a process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def slug(device: str) -> str:
    """Such as amd-epyc-2-threads."""
    return re.sub(r"[^a-z0-9]+", "-", f"{name(device)} {threads()} threads".lower())


def description(device: str) -> str:
    """The machine and the versions."""
    return f"{name(device)}, {threads()} threads; {', '.join(_versions())}"


def has_bf16() -> bool:
    """Whether the processor multiplies bf16 in hardware, as far as Linux tells."""
    return bool(BF16_FLAGS & set((_cpuinfo("flags") or _cpuinfo("Features")).split()))


def _versions() -> list[str]:
    found = [f"Python {platform.python_version()}"]
    for package in ("torch", *PEERS):
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"no {package}")
    return found


def _cpuinfo(key: str) -> str:
    path = Path("/proc/cpuinfo")
    match = re.search(rf"^{key}\s*:\s*(.*)$", path.read_text(), re.MULTILINE) if path.exists() else None
    return match.group(1) if match else ""
