"""Memory of processes, from ``/proc``."""

from __future__ import annotations

from pathlib import Path

MIB = 1024.0


def resident(pid: int) -> float:
    """Resident memory in MiB, shared pages included."""
    return _field(pid, "VmRSS")


def peak(pid: int) -> float:
    """Highest resident memory in MiB since :func:`forget_peak`."""
    return _field(pid, "VmHWM")


def forget_peak(pid: int) -> None:
    """Start measuring the peak anew. Source: proc(5), clear_refs."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def _field(pid: int, name: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / MIB
    raise ValueError(f"/proc/{pid}/status has no {name}")
