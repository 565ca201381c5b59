"""What was measured on: a short name for file names, a line for readers."""

import platform
import re
from importlib.metadata import PackageNotFoundError, version

import torch

from evidence.runs.hardware import cpuinfo, processor, short, threads

PEERS = ("jax", "pythae")
KIND = {
    "family": "cpu family",
    "model": "model",
    "part": "CPU part",
}  # as Linux names them on x86, and on Arm
BF16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}  # as Linux names them on x86 and Arm


def name(device: str) -> str:
    """The GPU, or the processor with what tells it from others of its name, and the threads."""
    if device == "cuda":
        return f"{short(torch.cuda.get_device_name())}, {threads()} threads"
    chip, _, count = processor().rpartition(", ")
    numbers = [f"{word} {number}" for word, key in KIND.items() if (number := cpuinfo(key))]
    return f"{chip} ({', '.join([*numbers, torch.backends.cpu.get_cpu_capability()])}), {count}"


def slug(device: str) -> str:
    """Such as amd-epyc-family-25-model-17-avx512-2-threads."""
    return re.sub(r"[^a-z0-9]+", "-", name(device).lower())


def description(device: str) -> str:
    """The machine and the versions."""
    return f"{name(device)}; {', '.join(_versions())}"


def has_bf16() -> bool:
    """Whether the processor multiplies bf16 in hardware, as far as Linux tells."""
    return bool(BF16_FLAGS & set((cpuinfo("flags") or cpuinfo("Features")).split()))


def _versions() -> list[str]:
    found = [f"Python {platform.python_version()}"]
    for package in ("torch", *PEERS):
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"no {package}")
    return found
