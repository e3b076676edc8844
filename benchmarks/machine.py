"""What measurements say of the computer: processor, memory, load, versions, and what a process holds."""

from __future__ import annotations

import os
import platform
import sys
from contextlib import suppress
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

BACKENDS = ("tensorflow", "jax", "torch")
PACKAGES = ("keras", "numpy", *BACKENDS, "jaxlib")


def installed_backends() -> list[str]:
    """The backends whose package can be found."""
    return [name for name in BACKENDS if find_spec(name) is not None]


def machine() -> dict[str, Any]:
    """The computer: system, processor, cores this process may use, Python."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "system": platform.platform(),
        "processor": _processor(),
        "cores": cores,
        "memory_mib": _memory(),
        "python": platform.python_version(),
        "load": load(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _memory() -> float | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**20
    except (AttributeError, ValueError, OSError):
        return None


def load() -> list[float] | None:
    """Load averages over 1, 5 and 15 minutes: whether something else was running."""
    return list(os.getloadavg()) if hasattr(os, "getloadavg") else None


def versions() -> dict[str, str]:
    """Versions of the packages that matter and are installed."""
    found = {}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def now() -> str:
    """Date and time in UTC."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def forget_peak() -> None:
    """Have :func:`peak_memory` begin anew, where the system lets it (Linux)."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_memory() -> float | None:
    """Most memory this process has held so far, in MiB; None where the system does not say.

    On Linux since :func:`forget_peak`.
    """
    with suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 2**10
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def resident_memory(process: int | str = "self") -> float | None:
    """MiB that a process holds; None where the system does not say."""
    try:
        pages = Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()[1]
    except (OSError, IndexError):
        return None
    return int(pages) * os.sysconf("SC_PAGE_SIZE") / 2**20
