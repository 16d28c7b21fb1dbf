"""Checks of arguments: integers within bounds, ports, timeouts. Errors name the argument and its value.

Knows nothing of the package; the modules of addresses, hosts and routes check those.

The reasons are in docs/explanation/event-loop.md.
"""

from __future__ import annotations

from math import isnan

MAX_PORT = 65535


def check_int(name: str, value: object, lowest: int, highest: int) -> int:
    """Return an integer within bounds.

    Args:
        name: the argument's name, for the message.
        value: the argument; a bool is not accepted.
        lowest, highest: the bounds, both included.

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
    """Return a port number; 0 chooses a free port, where `lowest` allows it. Raises what `check_int` raises."""
    return check_int(name, value, lowest, MAX_PORT)


def check_timeout(name: str, value: object) -> float | None:
    """Return a timeout in seconds, or None for no limit. With 0 it expires at once, as in asyncio.

    Raises:
        TypeError: neither a number nor None.
        ValueError: negative, or NaN.
    """
    if value is None:
        return None
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number of seconds or None, not {type(value).__name__}")
    if isnan(value) or value < 0:
        raise ValueError(f"{name}: {value} is not a number of seconds from 0 on")
    return value
