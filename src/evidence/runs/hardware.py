"""Names the hardware that a process runs on."""

import os
import platform
import re
from pathlib import Path


def processor() -> str:
    """The CPU and the number of threads that the process may use, such as "AMD EPYC, 2 threads"."""
    return f"{short(cpuinfo('model name') or platform.machine())}, {threads()} threads"


def short(name: str) -> str:
    """A processor's name without marks such as (R), (TM), "CPU" and the clock rate."""
    return re.sub(r"\((R|TM)\)|\bCPU\b|\bProcessor\b|@.*", "", name).strip()


def threads() -> int:
    """The number of hardware threads that the process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpuinfo(key: str) -> str:
    """Linux's entry for the first CPU under this key. Empty on other systems."""
    path = Path("/proc/cpuinfo")
    match = re.search(rf"^{key}\s*:\s*(.*)$", path.read_text(), re.MULTILINE) if path.exists() else None
    return match.group(1) if match else ""
