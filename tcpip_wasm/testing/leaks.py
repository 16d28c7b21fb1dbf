"""Reports a test that leaks tasks, sockets or stacks: fails it, warns, or does nothing."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Final, Literal

import pytest

Policy = Literal["fail", "warn", "ignore"]

ADVICE: Final = """\
A test closes what it opens: server.close(), writer.close(), task.cancel(). What is needed for the whole test is opened
by a fixture that closes it, or by a service, host.start(serve), which ends with the test. The marker
tcpip_leaks("ignore") and the ini option tcpip_leaks switch this check off."""


def report_leaks(owner: str, items: Iterable[str], policy: Policy) -> None:
    """Fail a test, or warn, with a list of what it has leaked."""
    __tracebackhide__ = True
    text = f"{owner} leaked:\n" + "\n".join(f"  {item}" for item in items) + f"\n{ADVICE}"
    if policy == "warn":
        warnings.warn(pytest.PytestWarning(text), stacklevel=2)
    elif policy == "fail":
        pytest.fail(text, pytrace=False)
