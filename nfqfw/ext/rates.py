"""Rates and times as the traffic-control tools write them."""

from __future__ import annotations

import re

RATE = re.compile(r"(\d+(?:\.\d+)?)([a-zA-Z]*)\Z", re.ASCII)
# unit -> bytes per second of one
BIT_UNITS = {"bit": 1 / 8, "kbit": 1e3 / 8, "kibit": 1024 / 8, "mbit": 1e6 / 8, "mibit": 1024**2 / 8, "gbit": 1e9 / 8, "gibit": 1024**3 / 8,
             "bps": 1, "kbps": 1e3, "kibps": 1024, "mbps": 1e6, "mibps": 1024**2, "gbps": 1e9, "gibps": 1024**3, "": 1 / 8}
TIME_UNITS = {"s": 1_000_000, "sec": 1_000_000, "secs": 1_000_000, "ms": 1000, "msec": 1000, "msecs": 1000, "us": 1, "usec": 1, "usecs": 1, "": 1}


def parse_bits(text: str) -> int | None:
    """A rate in bytes per second, or None."""
    found = RATE.match(text)
    unit = BIT_UNITS.get(found[2].lower()) if found else None
    return None if unit is None else int(float(found[1]) * unit)


def rate_text(rate: int) -> str:
    """Bytes per second in bits."""
    bits = rate * 8
    for size, unit in ((1_000_000, "Mbit"), (1000, "Kbit")):
        if bits >= size and bits % size == 0:
            return f"{bits // size}{unit}"
    return f"{bits}bit"


def parse_time(text: str) -> int | None:
    """A time in microseconds, or None."""
    found = RATE.match(text)
    unit = TIME_UNITS.get(found[2].lower()) if found else None
    return None if unit is None else int(float(found[1]) * unit)


def time_text(microseconds: int) -> str:
    if microseconds >= 1_000_000:
        return f"{microseconds / 1_000_000:.1f}s"
    return f"{microseconds / 1000:.1f}ms" if microseconds >= 1000 else f"{microseconds}us"
