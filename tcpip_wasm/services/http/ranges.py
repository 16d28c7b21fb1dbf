"""Ranges and conditions of HTTP requests (RFC 9110, sections 13 and 14). Pure functions of header fields."""

from __future__ import annotations

import re
from email.utils import formatdate, parsedate_to_datetime
from typing import Final

_RANGE: Final = re.compile(r"\s*bytes\s*=\s*(?:(\d{1,18})\s*-\s*(\d{1,18})?|-\s*(\d{1,18}))\s*", re.IGNORECASE)


def entity_tag(size: int, modified: int) -> str:
    """Return the tag of a file.

    Args:
        size: bytes.
        modified: when it was changed, in nanoseconds.
    """
    return f'"{size:x}-{modified:x}"'


def http_date(seconds: float) -> str:
    """Return a date as header fields have it."""
    return formatdate(seconds, usegmt=True)


def find_range(value: str | None, size: int) -> tuple[int, int] | None:
    """Return the first byte and the one behind the last that a request wants; None for all of a file.

    Several ranges, and what cannot be read, mean all of it (RFC 9110, section 14.2).

    Raises:
        ValueError: the range is beyond the end of the file.
    """
    match = _RANGE.fullmatch(value) if value is not None and len(value) < 100 else None
    if match is None:
        return None
    first, last, tail = match.groups()
    if tail is not None:
        count = min(int(tail), size)
        if count == 0:
            raise ValueError("an empty range")
        return size - count, size
    begin, end = int(first), min(int(last) + 1, size) if last is not None else size
    if last is not None and int(last) < begin:
        return None
    if begin >= size:
        raise ValueError("a range beyond the end")
    return begin, end


def is_same(value: str, tag: str, modified: float) -> bool:
    """Whether If-Range names the file as it is: by its tag, or by its date (RFC 9110, section 13.1.5)."""
    value = value.strip()
    return value == tag if value.startswith(('"', "W/")) else value == http_date(modified)


def is_unchanged(none_match: str | None, since: str | None, tag: str, modified: float) -> bool:
    """Whether a client has the file as it is (RFC 9110, sections 13.1.2 and 13.1.3)."""
    if none_match is not None:
        tags = [one.strip().removeprefix("W/") for one in none_match.split(",")]
        return "*" in tags or tag in tags
    if since is None:
        return False
    try:
        return int(modified) <= parsedate_to_datetime(since).timestamp()
    except (ValueError, TypeError, OverflowError, OSError):
        return False
