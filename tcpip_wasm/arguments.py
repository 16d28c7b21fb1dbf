"""Reading what callers write: numbers within bounds, and times. Wrong input gets an error that names it and its value.

Knows nothing of the package; what is particular to addresses, hosts or routes is read where those are at home.

The reasons are in docs/explanation/event-loop.md.
"""

from __future__ import annotations

from math import isnan

MAX_PORT = 65535


def check_int(name: str, value: object, lowest: int, highest: int) -> int:
    """Return a whole number.

    Args:
        name: the argument's, for the message.
        value: what the caller wrote; a bool is no number.
        lowest, highest: what it may be, both included.

    Raises:
        TypeError: not an int.
        ValueError: out of range.
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    if not lowest <= value <= highest:
        raise ValueError(f"{name}: {value} is not within {lowest} to {highest}")
    return value


def check_port(name: str, value: object, lowest: int = 0) -> int:
    """Return a port number: from 0, which is any free one, or from 1. Raises what `check_int` raises."""
    return check_int(name, value, lowest, MAX_PORT)


def check_timeout(name: str, value: object) -> float | None:
    """Return seconds to wait at most, or None for no limit. With 0 the time is up at once, as asyncio has it.

    Raises:
        TypeError: neither a number nor None.
        ValueError: negative, or not a number in the other sense.
    """
    if value is None:
        return None
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number of seconds or None, not {type(value).__name__}")
    if isnan(value) or value < 0:
        raise ValueError(f"{name}: {value} is not a number of seconds from 0 on")
    return value
