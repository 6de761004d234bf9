"""Resident memory of this process, from Linux's /proc."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any


def resident_rise(action: Callable[[], Any]) -> int:
    """Bytes by which the peak meanwhile is above what is resident before."""
    # the peak starts anew from what there is now
    Path("/proc/self/clear_refs").write_text("5")
    before = _resident("VmRSS")
    action()
    return _resident("VmHWM") - before


def _resident(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return 1024 * int(line.split()[1])
    raise OSError(f"/proc/self/status has no {name}")
