"""What the kernel says of its clock: whether somebody keeps it synchronized, and how far it may be off.

Source: adjtimex(2).
"""

from __future__ import annotations

import ctypes
import ctypes.util
from typing import Any, Final

from intaglio.timestamping.clock.measurement import ClockUnreachable, ClockUnsynchronized, Measurement

_STA_UNSYNC: Final = 0x0040
_TIME_ERROR: Final = 5


class _Timex(ctypes.Structure):
    """struct timex, as far as it is read; the rest is room."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 512),
    )


def measure() -> Measurement:
    """What the kernel says; nothing is changed. Raises ClockUnsynchronized, ClockUnreachable."""
    timex = _Timex()
    state = _library().adjtimex(ctypes.byref(timex))
    if state < 0:
        raise ClockUnreachable("The kernel does not tell whether its clock is synchronized.")
    if state == _TIME_ERROR or timex.status & _STA_UNSYNC:
        raise ClockUnsynchronized(
            "The kernel says that nobody keeps its clock synchronized.",
            remedy="Start chronyd, or another NTP client that tells the kernel (systemd-timesyncd, ntpd).",
        )
    return Measurement("system", 0.0, timex.maxerror / 1_000_000)


def _library() -> Any:
    try:
        return ctypes.CDLL(ctypes.util.find_library("c") or "libc.so.6", use_errno=True)
    except OSError:
        raise ClockUnreachable("This system has no adjtimex.") from None
