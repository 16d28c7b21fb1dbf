"""Names of the algorithms of congestion control, as Linux's ``TCP_CONGESTION`` and this package's options have them."""

from __future__ import annotations

from typing import Final

ALGORITHMS: Final = ("cubic", "reno")
"""RFC 9438 and RFC 5681; the position of a name is the value of the ABI's ``OPTION_CONGESTION_CONTROL``."""


def congestion_number(name: str | None, default: int = 0) -> int:
    """Return the ABI's value for an algorithm.

    Args:
        name: one of `ALGORITHMS`, or None.
        default: the value for None.

    Raises:
        ValueError: there is no such algorithm.
        TypeError: `name` is no text.
    """
    if name is None:
        return default
    if not isinstance(name, str):
        raise TypeError(f"congestion_control must be a str, not {type(name).__name__}")
    if name not in ALGORITHMS:
        raise ValueError(f"congestion_control: {name!r} is not one of {', '.join(ALGORITHMS)}")
    return ALGORITHMS.index(name)
