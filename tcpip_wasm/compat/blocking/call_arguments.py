"""Checks of the arguments of a socket's methods, with the exception types and texts of the real module's C code."""

from __future__ import annotations

from collections.abc import Iterable
from operator import index
from typing import Any, Final

_MOST: Final = 2**31 - 1
_FLOW: Final = 0xFFFFF


def as_int(value: Any) -> int:
    """Return an argument that C code accepts as an int.

    Raises:
        TypeError: not an integer.
        OverflowError: it does not fit a C int.
    """
    number = index(value)
    if not -_MOST - 1 <= number <= _MOST:
        raise OverflowError("Python int too large to convert to C int")
    return number


def check_flow(call: str, address: tuple[Any, ...]) -> None:
    """Check the flow information of an IPv6 socket address, if it has one.

    Raises:
        TypeError: not an integer.
        OverflowError: not within 20 bits.
    """
    if len(address) > 2 and not 0 <= index(address[2]) <= _FLOW:
        raise OverflowError(f"{call}(): flowinfo must be 0-{_FLOW}.")


def check_buffer(data: Any) -> None:
    """Raise TypeError unless the argument is a bytes-like object."""
    try:
        memoryview(data)
    except TypeError:
        raise TypeError(f"a bytes-like object is required, not {type(data).__name__!r}") from None


def check_ancillary(items: Iterable[Any]) -> bool:
    """Return whether there is ancillary data.

    Raises:
        TypeError: malformed.
    """
    given = list(items)
    for item in given:
        if not isinstance(item, (tuple, list)) or len(item) != 3:
            raise TypeError("[sendmsg() ancillary data items] must be sequences of length 3")
        as_int(item[0])
        as_int(item[1])
        check_buffer(item[2])
    return bool(given)
