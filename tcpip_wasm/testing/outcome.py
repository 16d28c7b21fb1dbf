"""What a test is told that has left something open."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NoReturn

import pytest


def fail_left_open(who: str, things: Iterable[str]) -> NoReturn:
    """Fail a test, and list what it has left open."""
    pytest.fail(f"{who} left open:\n" + "\n".join(f"  {thing}" for thing in things), pytrace=False)
