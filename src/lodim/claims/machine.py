"""What a figure was measured on: processor, memory and GPU; never a host, a user or a path."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from lodim.extras import versions as versions

__all__ = ["describe_machine", "source_revision", "versions"]


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):
        return None  # not a POSIX system: unknown is recorded as unknown


def describe_machine() -> dict[str, Any]:
    """Return the machine as ``cpu``, usable ``cores``, torch's ``threads``, ``memory_gib``, ``gpu`` and ``system``."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cpu": _processor(),
        "cores": cores,
        "threads": torch.get_num_threads(),
        "memory_gib": _memory_gib(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": f"{platform.system()} {platform.machine()}",
    }


def source_revision() -> str | None:
    """Return the git revision of the source tree, with ``+changes`` when it was edited since; None without git."""
    folder = Path(__file__).resolve().parent

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", Path(__file__).name)  # an installed copy is in nobody's repository
        return git("rev-parse", "--short=12", "HEAD") + (
            "+changes" if git("status", "--porcelain", "..") else ""
        )
    except (OSError, subprocess.SubprocessError):
        return None
