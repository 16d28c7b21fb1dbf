"""`python -m tests.cpython.sockets [pattern …]`: run CPython's tests of sockets over a stack, and print a JSON line.

The interpreter's own installed tests are imported and run within `polyfill_socket`, so that what they find out about
their network when they are imported is found out about the stack. `sockets.toml` has the list.
"""

from __future__ import annotations

import faulthandler
import importlib
import json
import socket
import sys
import tomllib
import unittest
import warnings
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from tcpip_wasm.compat import StackThread, polyfill_socket
from tcpip_wasm.compat import socket as stack_socket
from tests.cpython import tests_of

LIST = Path(__file__).with_name("sockets.toml")
HANG_TIMEOUT = 240.0
"""Time limit of a test in seconds; after it the run ends with the stack traces of all threads.

It is for tests that hang, and so is many times what the slowest takes on a busy machine (some 10 s).
"""


class _Result(unittest.TextTestResult):
    """Ends a test that hangs."""

    def startTest(self, test: Any) -> None:
        faulthandler.dump_traceback_later(HANG_TIMEOUT, exit=True)
        super().startTest(test)

    def stopTest(self, test: Any) -> None:
        super().stopTest(test)
        faulthandler.cancel_dump_traceback_later()


def main() -> int:
    """Run them; return 0 where all that are not excluded pass."""
    rules = tomllib.loads(LIST.read_text(encoding="utf-8"))
    only = sys.argv[1:] or ["*"]
    modules = [name for name in rules["modules"] if any(pattern.split(".")[0] in (name, "*") for pattern in only)]
    left_out = {"not of the network": 0, "excluded": 0}
    suite = unittest.TestSuite()
    with StackThread() as thread, polyfill_socket(thread):
        _pairs_over_the_stack()
        for module in modules:
            for test in tests_of(f"test.{module}"):
                name = test.id().removeprefix("test.")
                if name in only:
                    suite.addTest(test)  # whatever the list says
                elif not any(fnmatchcase(name, pattern) for pattern in only):
                    continue
                elif any(fnmatchcase(name, pattern) for pattern in rules["elsewhere"]):
                    left_out["not of the network"] += 1
                elif any(fnmatchcase(name, pattern) for pattern in rules["excluded"]):
                    left_out["excluded"] += 1
                else:
                    suite.addTest(test)
        warnings.simplefilter("ignore", ResourceWarning)
        kind: Any = _Result
        result = unittest.TextTestRunner(stream=sys.stderr, verbosity=2, resultclass=kind).run(suite)
        frames = thread.call(_frames(thread.stack))
    failed = [test.id().removeprefix("test.") for test, _ in result.failures + result.errors]
    skipped = {test.id().removeprefix("test."): reason for test, reason in result.skipped}
    print(json.dumps({"run": result.testsRun, "skipped": skipped, "failed": failed, "frames": frames, **left_out}))
    return 1 if failed else 0


def _pairs_over_the_stack() -> None:
    """Let the tests of selectors create their pairs of sockets over the stack."""
    module: Any = importlib.import_module("test.test_selectors")
    module.socketpair = lambda: stack_socket.socketpair(socket.AF_INET)


async def _frames(stack: Any) -> int:
    """Return how many packets crossed the stack's loopback."""
    return int(sum(each.frames_in for each in stack.stats().interfaces.values()))


if __name__ == "__main__":
    sys.exit(main())
