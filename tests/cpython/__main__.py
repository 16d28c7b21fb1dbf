"""`python -m tests.cpython`: run CPython's tests of asyncio that are in `judge.toml`, and print one JSON line.

The interpreter's own installed tests are used. Each prints to stderr as unittest does.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tomllib
import unittest
import warnings
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from tcpip_wasm.compat import machine_network
from tests.cpython import tests_of
from tests.cpython.loop import StackLoop

LIST = Path(__file__).with_name("judge.toml")


def main() -> int:
    """Run them; return 0 where all that are not excluded pass."""
    rules = tomllib.loads(LIST.read_text(encoding="utf-8"))
    module: Any = asyncio
    module.SelectorEventLoop = module.DefaultEventLoopPolicy._loop_factory = StackLoop
    only = sys.argv[1:]
    excluded = [*rules["excluded"], *rules.get("excluded on {}.{}".format(*sys.version_info), {})]
    suite, left_out = unittest.TestSuite(), 0
    for each in rules["modules"]:
        for test in tests_of(f"test.test_asyncio.{each['name']}"):
            name = test.id().removeprefix("test.test_asyncio.")
            if not any(fnmatchcase(name, f"{each['name']}.{pattern}") for pattern in each["classes"]):
                continue
            if only and not any(fnmatchcase(name, pattern) for pattern in only):
                continue
            if not only and any(fnmatchcase(name, pattern) for pattern in excluded):
                left_out += 1
                continue
            suite.addTest(test)
    warnings.simplefilter("ignore", ResourceWarning)
    with machine_network():  # the other ends are real sockets of the same thread, while no loop runs
        result = unittest.TextTestRunner(stream=sys.stderr, verbosity=2).run(suite)
    failed = [test.id().removeprefix("test.test_asyncio.") for test, _ in result.failures + result.errors]
    summary = {
        "run": result.testsRun,
        "skipped": len(result.skipped),
        "excluded": left_out,
        "failed": failed,
        **StackLoop.counts,
    }
    print(json.dumps(summary))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
