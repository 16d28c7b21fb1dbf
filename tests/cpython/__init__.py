"""CPython's own tests of asyncio and of sockets, run over a stack."""

from __future__ import annotations

import unittest
from collections.abc import Iterator


def tests_of(module: str) -> Iterator[unittest.TestCase]:
    """Yield the tests of a module one by one."""
    yield from _flat(unittest.defaultTestLoader.loadTestsFromName(module))


def _flat(suite: unittest.TestSuite) -> Iterator[unittest.TestCase]:
    for each in suite:
        if isinstance(each, unittest.TestSuite):
            yield from _flat(each)
        else:
            yield each
