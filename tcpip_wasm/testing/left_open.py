"""What becomes of a test that has left something open: it fails, or there is a warning, or nothing."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Final, Literal

import pytest

Policy = Literal["fail", "warn", "ignore"]

ADVICE: Final = """\
A test closes what it opens: server.close(), writer.close(), task.cancel(). What is to live as long as the test is
opened by a fixture that closes it, or by a service, host.start(serve), which ends with the test. The marker
tcpip_left_open("ignore") and the ini option tcpip_left_open switch this check off."""


def report_left_open(who: str, things: Iterable[str], policy: Policy) -> None:
    """Fail a test, or warn, and list what it has left open."""
    __tracebackhide__ = True
    text = f"{who} left open:\n" + "\n".join(f"  {thing}" for thing in things) + f"\n{ADVICE}"
    if policy == "warn":
        warnings.warn(pytest.PytestWarning(text), stacklevel=2)
    elif policy == "fail":
        pytest.fail(text, pytrace=False)
