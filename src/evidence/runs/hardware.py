"""What a process runs on, in the words that its owner would use."""

import os
import platform
import re
from pathlib import Path


def processor() -> str:
    """The CPU and what of it the process may use, such as "AMD EPYC, 2 threads"."""
    return f"{short(cpuinfo('model name') or platform.machine())}, {threads()} threads"


def short(name: str) -> str:
    """A processor's name without the words that all of them have."""
    return re.sub(r"\((R|TM)\)|\bCPU\b|\bProcessor\b|@.*", "", name).strip()


def threads() -> int:
    """How many of the machine's a process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpuinfo(key: str) -> str:
    """What Linux says of the first CPU under this key; empty elsewhere."""
    path = Path("/proc/cpuinfo")
    match = re.search(rf"^{key}\s*:\s*(.*)$", path.read_text(), re.MULTILINE) if path.exists() else None
    return match.group(1) if match else ""
